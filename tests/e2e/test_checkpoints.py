"""Trials that are killed halfway and go on: from their checkpoints, or again from their beginning."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from resumable_sweeps import RESUMABLE, is_dead, stories
from sweep_runs import SweepRun, run_sweep, training_processes, wait_for

from orchestrator.events import TrialReported, TrialWarned
from orchestrator.paths import SweepPaths
from trainables.checkpoint import CheckpointError, CheckpointFile

pytestmark = pytest.mark.slow

WHOLE, DAMAGED = "trial-0000", "trial-0001"
TWO_TRIALS = tuple(
    part
    for override in (
        "first_trials=[{head.kind: none}, {head.kind: mlp}]",
        "search.sampler=list",
        "trial.epochs=16",
        "trial.validate_every=8",
        "early_stopping={kind: none}",
        "evaluation.points=none",
    )
    for part in ("--set", override)
)


def progress_of(paths: SweepPaths, trial: str) -> dict[str, Any]:
    """How far a trial's checkpoint is; nothing where there is none."""
    path = paths.checkpoint(trial)
    try:
        return CheckpointFile(path, 0.0).read()["progress"] if Path(path).exists() else {}
    except CheckpointError:  # it ended meanwhile
        return {}


def is_halfway(progress: dict[str, Any]) -> bool:
    """Whether some epochs of the main phase are in no report yet, and the next one is not near."""
    return 1 <= len(progress.get("unreported", ())) <= 6


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[SweepRun, dict[str, Any]]:
    """The driver was killed in the middle of the first trial, which went on, then of the second, whose
    checkpoint was damaged; with what the whole checkpoint held.
    """
    folder = tmp_path_factory.mktemp("halfway")
    paths = SweepPaths.of(f"{folder}/runs", "halfway")

    def live(*arguments: str, killed_in: str = "") -> SweepRun:
        def kill(driver: psutil.Process) -> None:
            wait_for(lambda: is_halfway(progress_of(paths, killed_in)) or is_dead(driver))
            workers = training_processes(driver)
            driver.send_signal(signal.SIGKILL)
            # They see that their driver is gone some moments later, and write until then.
            assert not psutil.wait_procs(workers, timeout=60)[1]

        return run_sweep(
            folder,
            "halfway",
            *TWO_TRIALS,
            *arguments,
            file=RESUMABLE,
            resumed=paths.ledger.exists(),
            while_running=kill if killed_in else None,
        )

    assert live(killed_in=WHOLE).returncode == -signal.SIGKILL
    held = progress_of(paths, WHOLE)
    assert live(killed_in=DAMAGED).returncode == -signal.SIGKILL
    damaged = Path(paths.checkpoint(DAMAGED))
    damaged.write_bytes(damaged.read_bytes()[:-100])
    sweep = live("--set", "checkpoint_every=1d")
    assert sweep.returncode == 0, sweep.stderr
    return sweep, held


def test_a_killed_trial_goes_on_from_its_checkpoint(killed: tuple[SweepRun, dict[str, Any]]) -> None:
    sweep, held = killed
    assert held["unreported"], "it was killed too near a report to show anything"
    reports = [e.report for e in sweep.events if isinstance(e, TrialReported) and e.trial == WHOLE]
    told = {int(epoch): values for report in reports for epoch, values in report["training"].items()}
    # Down to the wall times, which no second training repeats: so these epochs were trained once.
    assert {epoch: told[epoch] for epoch in held["unreported"]} == held["unreported"]


def test_a_trial_whose_checkpoint_is_damaged_starts_again_with_a_warning(
    killed: tuple[SweepRun, dict[str, Any]],
) -> None:
    sweep, _ = killed
    (event,) = [event for event in sweep.events if isinstance(event, TrialWarned)]
    assert event.trial == DAMAGED
    assert f"{sweep.paths.checkpoint(DAMAGED)} is not a whole checkpoint" in event.warning
    assert f"{DAMAGED}: {sweep.paths.checkpoint(DAMAGED)}" in sweep.stdout.replace("\n", "")
    assert event.warning in sweep.paths.log.read_text()
    assert sweep.children[DAMAGED].data.tags["warning"] == event.warning
    assert not list(sweep.paths.root.glob("checkpoints/*"))


def test_both_end_as_trials_that_were_never_killed(
    killed: tuple[SweepRun, dict[str, Any]], tmp_path: Path
) -> None:
    expected = run_sweep(tmp_path, "whole", *TWO_TRIALS, file=RESUMABLE)
    assert expected.returncode == 0, expected.stderr
    assert stories(killed[0]) == stories(expected)
    assert [(p.trial, p.epoch) for p in killed[0].record.front] == [
        (p.trial, p.epoch) for p in expected.record.front
    ]
