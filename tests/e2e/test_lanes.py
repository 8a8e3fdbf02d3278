"""The same training in both lanes: in the warm Tune actor, and in a worker group."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from resumable_sweeps import num_lines
from sweep_runs import SweepRun, run_sweep, wait_for

from orchestrator.events import TrialReported, TrialRetried
from orchestrator.retention import RetentionRule, wanted_snapshots

pytestmark = pytest.mark.slow
FIRST_TRIAL = "first_trials=[{head.kind: mlp}]"


def _reports(sweep: SweepRun) -> list[dict[str, float]]:
    """The numbers of the first trial's reports, without wall times."""
    return [
        {name: value for name, value in event.report["metrics"].items() if not name.endswith("_time_s")}
        for event in sweep.events
        if isinstance(event, TrialReported) and event.trial == "trial-0000"
    ]


@pytest.fixture(scope="module")
def local_lane(tmp_path_factory: pytest.TempPathFactory) -> SweepRun:
    return run_sweep(tmp_path_factory.mktemp("lane"), "local", "--trials", "1", "--set", FIRST_TRIAL)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_worker_group_trains_the_same_as_the_warm_actor(
    num_workers: int, local_lane: SweepRun, tmp_path: Path, no_ray_left: None
) -> None:
    if num_workers > (psutil.cpu_count() or 1):
        pytest.skip(f"needs {num_workers} CPUs")
    workers = f"resources.workers={num_workers}"
    group = run_sweep(tmp_path, "group", "--trials", "1", "--set", FIRST_TRIAL, "--set", workers)
    assert group.returncode == 0, group.stdout + group.stderr
    expected, reported = _reports(local_lane), _reports(group)
    assert len(reported) == len(expected) == 3
    for ours, theirs in zip(reported, expected, strict=True):
        # One query of 300 may fall to the other side, one component may more or less be needed.
        assert ours["knn_accuracy"] == pytest.approx(theirs["knn_accuracy"], abs=0.01)
        assert ours["d_eff"] == pytest.approx(theirs["d_eff"], abs=1)
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-3)
    folders = (group.paths.root / "snapshots").glob("*/*")
    stored = {(f.parent.name, int(f.name.removeprefix("epoch-"))) for f in folders}
    assert stored == wanted_snapshots(group.record, RetentionRule())


def test_a_worker_that_dies_takes_its_group_along_and_another_goes_on(
    tmp_path: Path, no_ray_left: None
) -> None:
    if (psutil.cpu_count() or 1) < 2:
        pytest.skip("needs 2 CPUs")
    ledger = tmp_path / "runs" / "broken" / "ledger.jsonl"

    def kill_one(driver: psutil.Process) -> None:
        wait_for(lambda: num_lines(ledger, "TrialReported") >= 2)
        workers = [p for p in driver.children(recursive=True) if "TrainWorker" in " ".join(p.cmdline())]
        assert len(workers) == 2
        workers[1].kill()

    settings = ("resources.workers=2", "trial.epochs=60", "trial.patience_epochs=null", FIRST_TRIAL)
    arguments = [part for setting in settings for part in ("--set", setting)]
    sweep = run_sweep(tmp_path, "broken", "--trials", "1", *arguments, while_running=kill_one)
    assert sweep.returncode == 0, sweep.stdout + sweep.stderr
    assert [type(e) for e in sweep.events].count(TrialRetried) == 1
    assert sweep.record.trials["trial-0000"].status == "completed"
    epochs = [e.report["epoch"] for e in sweep.events if isinstance(e, TrialReported)]
    assert epochs == list(range(3, 61, 3))
