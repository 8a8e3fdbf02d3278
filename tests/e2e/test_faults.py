"""Sweeps to which something happens."""

from __future__ import annotations

import contextlib
import signal
import time
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient
from resumable_sweeps import is_dead, num_lines
from safetensors.torch import save_file
from sweep_runs import SweepRun, run_sweep, training_processes, wait_for

from orchestrator.retention import RetentionRule, wanted_snapshots
from trainables.encoders import build_image_encoder
from trainables.snapshots import EMBEDDINGS

pytestmark = pytest.mark.slow


def _set(*overrides: str) -> tuple[str, ...]:
    return tuple(part for override in overrides for part in ("--set", override))


LONG = _set("trial.epochs=1000", "trial.patience_epochs=null", "trial.validate_every=1")
HEALTHY = _set("first_trials=[{head.kind: none}]", "search_space.optimizer.head_lr={choice: [2.0e-3]}")


def _wait_for_reports(folder: Path, name: str, num_reports: int) -> None:
    ledger = folder / "runs" / name / "ledger.jsonl"
    wait_for(lambda: num_lines(ledger, "TrialReported") >= num_reports)


def test_a_trial_that_raises_or_dies_is_recorded_and_the_others_go_on(
    tmp_path: Path, no_ray_left: None
) -> None:
    weights, ledger = tmp_path / "weights.safetensors", tmp_path / "runs/failing/ledger.jsonl"
    save_file(build_image_encoder("digits_cnn").state_dict(), weights)
    seen: dict[int, None] = {}

    def kill_one(driver: psutil.Process) -> None:
        wait_for(lambda: num_lines(ledger, "TrialStarted"))
        weights.unlink()  # the first trial does without it, the second one fails
        is_killed = False
        while not is_dead(driver):
            processes = training_processes(driver)
            seen.update(dict.fromkeys(process.pid for process in processes))
            if not is_killed and num_lines(ledger, "TrialReported") >= 3:  # the first one's are two
                processes[0].kill()
                is_killed = True
            time.sleep(0.05)

    overrides = _set(
        f"search_space={{encoder_weights: {{choice: [none, {weights}]}}}}",
        f"first_trials=[{{}}, {{encoder_weights: {weights}}}, {{}}, {{}}]",
        "trial.epochs=40",
        "trial.validate_every=20",
        "trial.patience_epochs=null",
        "max_retries=0",
        "tracking.embeddings=none",
    )
    sweep = run_sweep(tmp_path, "failing", *overrides, while_running=kill_one)
    assert sweep.returncode == 0, sweep.stdout + sweep.stderr
    trials = list(sweep.record.trials.values())
    assert [trial.status for trial in trials] == ["completed", "failed", "failed", "completed"]
    assert "WeightsError: " in sweep.children["trial-0001"].data.tags["reason"]
    assert "its process died" in trials[2].reason
    statuses = [sweep.children[trial.name].info.status for trial in trials]
    assert statuses == ["FINISHED", "FAILED", "FAILED", "FINISHED"]
    # One process for the first two trials, a new one after each failure.
    assert len(seen) == 3
    _assert_no_embeddings_are_stored(sweep)


def _assert_no_embeddings_are_stored(sweep: SweepRun) -> None:
    """In MLflow: the front's snapshots, without their embeddings."""
    wanted = wanted_snapshots(sweep.record, RetentionRule("none"))
    assert wanted
    stored: set[tuple[str, int]] = set()
    for name, child in sweep.children.items():
        for folder in sweep.client.list_artifacts(child.info.run_id, "snapshots"):
            stored.add((name, int(folder.path.removeprefix("snapshots/epoch-"))))
            files = sweep.client.list_artifacts(child.info.run_id, folder.path)
            assert files and not any(EMBEDDINGS in file.path for file in files)
    assert stored == wanted


def test_a_running_sweep_shows_its_front_and_an_interrupt_ends_it_tidily(
    tmp_path: Path, no_ray_left: None
) -> None:
    seen: list[str] = []
    refused: list[SweepRun] = []

    def look(driver: psutil.Process) -> None:
        _wait_for_reports(tmp_path, "live", 1)
        client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
        (experiment,) = [e for e in client.search_experiments() if e.name == "tiny"]
        mine = "attributes.run_name = 'live'"
        (parent,) = client.search_runs([experiment.experiment_id], mine)

        def pages() -> list[str]:
            return [artifact.path for artifact in client.list_artifacts(parent.info.run_id)]

        wait_for(lambda: "report.html" in pages(), timeout_s=30)
        assert client.get_run(parent.info.run_id).info.status == "RUNNING"
        seen.extend(pages())
        refused.append(run_sweep(tmp_path, "live", *HEALTHY, *LONG, resumed=True))
        # As Ctrl-C does: the whole group of the terminal gets it.
        driver.send_signal(signal.SIGINT)
        for process in driver.children(recursive=True):
            process.send_signal(signal.SIGINT)

    sweep = run_sweep(tmp_path, "live", *HEALTHY, *LONG, while_running=look)
    assert {"report.html", "pareto_front.csv", "sweep.yaml"} <= set(seen)
    assert refused[0].returncode == 2
    assert "another process works on this sweep" in refused[0].stderr
    assert sweep.returncode == 130
    assert sweep.record.status == "interrupted"
    assert sweep.record.front
    assert "interrupted by SIGINT" in sweep.stdout
    assert sweep.parent.info.status == "KILLED"
    assert {child.info.status for child in sweep.children.values()} == {"KILLED"}
    front = sweep.client.list_artifacts(sweep.parent.info.run_id)
    assert "report.html" in [artifact.path for artifact in front]


def test_a_second_interrupt_ends_at_once(tmp_path: Path, no_ray_left: None) -> None:
    def interrupt_twice(driver: psutil.Process) -> None:
        _wait_for_reports(tmp_path, "twice", 2)
        driver.send_signal(signal.SIGINT)
        time.sleep(0.2)  # two signals at the same moment are one
        with contextlib.suppress(psutil.NoSuchProcess):
            driver.send_signal(signal.SIGINT)

    sweep = run_sweep(tmp_path, "twice", *HEALTHY, *LONG, while_running=interrupt_twice)
    assert sweep.returncode == 130
    assert "Traceback" not in sweep.stderr
    assert sweep.parent.info.status == "KILLED"
    assert all(trial.is_ended for trial in sweep.record.trials.values())


def test_time_budget_ends_the_sweep(tmp_path: Path, no_ray_left: None) -> None:
    sweep = run_sweep(tmp_path, "budget", "--time-budget", "25s", *HEALTHY, *LONG)
    assert sweep.returncode == 0
    assert sweep.record.reason == "the time budget of 25 s is used up"
    assert {trial.status for trial in sweep.record.trials.values()} == {"interrupted"}
    assert sweep.record.front
