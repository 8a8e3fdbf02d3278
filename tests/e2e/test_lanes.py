"""A trial in a group of workers: it trains what one process does, and goes on where one of them dies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from resumable_sweeps import num_lines
from sweep_runs import SweepRun, run_sweep, wait_for

from orchestrator.events import TrialReported, TrialRetried
from orchestrator.retention import RetentionRule, wanted_snapshots
from trainables.config import TrialConfig
from trainables.training import fit
from trainables.validation import Validation

pytestmark = pytest.mark.slow
SETTINGS = (
    "resources.workers=2", "trial.epochs=18", "trial.patience_epochs=null",
    "first_trials=[{head.kind: mlp}]",
)  # fmt: skip
NUM_COMPARED = 2


class _EnoughError(Exception):
    pass


def metrics_of(sweep: SweepRun) -> list[dict[str, float]]:
    """Of the first trial's reports."""
    reports = [event for event in sweep.events if isinstance(event, TrialReported)]
    return [event.report["metrics"] for event in reports if event.trial == "trial-0000"]


def assert_alike(ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> None:
    assert ours
    for our, their in zip(ours, theirs, strict=True):
        # One query of 300 may fall to the other side, one component may more or less be needed.
        assert our["knn_accuracy"] == pytest.approx(their["knn_accuracy"], abs=0.01)
        assert our["d_eff"] == pytest.approx(their["d_eff"], abs=1)
        assert our["train_loss"] == pytest.approx(their["train_loss"], rel=1e-3)


def metrics_of_one_process(config: dict[str, Any]) -> list[dict[str, float]]:
    """The first reports of a trial's training as a trial without a group has it."""
    reports: list[dict[str, float]] = []

    def listen(validation: Validation) -> None:
        reports.append(validation.report.metrics)
        if len(reports) == NUM_COMPARED:
            raise _EnoughError

    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with pytest.raises(_EnoughError):
            fit(TrialConfig.model_validate(config | {"device": "cpu"}), listen)
    finally:
        torch.set_num_threads(num_threads)
    return reports


def test_a_group_of_one_trains_the_same_as_the_warm_actor(
    tiny_sweep: SweepRun, tmp_path: Path, no_ray_left: None
) -> None:
    (warm, *_) = tiny_sweep.record.trials.values()
    settings = ("--set", f"first_trials=[{json.dumps(warm.parameters)}]", "--set", "resources.workers=1")
    group = run_sweep(tmp_path, "group", "--trials", "1", *settings)
    assert group.returncode == 0, group.stdout + group.stderr
    assert_alike(metrics_of(group), metrics_of(tiny_sweep))


def test_a_group_trains_as_one_process_does_and_goes_on_where_a_worker_dies(
    tmp_path: Path, no_ray_left: None
) -> None:
    if (psutil.cpu_count() or 1) < 2:
        pytest.skip("needs 2 CPUs")
    ledger = tmp_path / "runs" / "broken" / "ledger.jsonl"

    def kill_one(driver: psutil.Process) -> None:
        wait_for(lambda: num_lines(ledger, "TrialReported") >= NUM_COMPARED)
        workers = [p for p in driver.children(recursive=True) if "TrainWorker" in " ".join(p.cmdline())]
        assert len(workers) == 2
        workers[1].kill()

    arguments = [part for setting in SETTINGS for part in ("--set", setting)]
    sweep = run_sweep(tmp_path, "broken", "--trials", "1", *arguments, while_running=kill_one)
    assert sweep.returncode == 0, sweep.stdout + sweep.stderr
    (trial,) = sweep.record.trials.values()
    assert_alike(metrics_of(sweep)[:NUM_COMPARED], metrics_of_one_process(trial.config))
    assert [type(event) for event in sweep.events].count(TrialRetried) == 1
    assert trial.status == "completed"
    reports = [event.report for event in sweep.events if isinstance(event, TrialReported)]
    assert [report["epoch"] for report in reports] == list(range(3, 19, 3))
    folders = (sweep.paths.root / "snapshots").glob("*/*")
    stored = {(f.parent.name, int(f.name.removeprefix("epoch-"))) for f in folders}
    assert stored == wanted_snapshots(sweep.record, RetentionRule())
