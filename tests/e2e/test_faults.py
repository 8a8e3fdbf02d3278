"""Sweeps to which something happens."""

from __future__ import annotations

import contextlib
import signal
import time
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient
from safetensors.torch import save_file
from sweep_runs import ray_processes, run_sweep, training_processes, wait_for

from orchestrator.retention import RetentionRule, wanted_snapshots
from trainables.encoders import build_image_encoder
from trainables.snapshots import EMBEDDINGS

pytestmark = pytest.mark.slow


def _set(*overrides: str) -> tuple[str, ...]:
    return tuple(part for override in overrides for part in ("--set", override))


LONG = _set("trial.epochs=400", "trial.patience_epochs=null", "trial.validate_every=1")
HEALTHY = _set("first_trials=[{head.kind: none}]", "search_space.optimizer.head_lr={choice: [2.0e-3]}")


def _wait_for_reports(folder: Path, name: str, num_reports: int) -> None:
    ledger = folder / "runs" / name / "ledger.jsonl"
    wait_for(lambda: ledger.exists() and ledger.read_text().count("TrialReported") >= num_reports)


def test_a_trial_that_dies_once_too_often_is_recorded_and_the_others_go_on(
    tmp_path: Path, no_ray_left: None
) -> None:
    def kill_one(driver: psutil.Process) -> None:
        _wait_for_reports(tmp_path, "killed", 3)
        wait_for(lambda: training_processes(driver))[0].kill()

    epochs = _set("trial.epochs=40", "trial.patience_epochs=null", "max_retries=0")
    sweep = run_sweep(tmp_path, "killed", *HEALTHY, *epochs, while_running=kill_one)
    assert sweep.returncode == 0
    failed = [trial for trial in sweep.record.trials.values() if trial.status == "failed"]
    assert len(failed) == 1
    assert "its process died" in failed[0].reason
    assert sweep.record.count("completed") == 3
    assert sweep.children[failed[0].name].info.status == "FAILED"


def test_raising_trial_is_recorded_and_its_process_is_not_reused(
    tmp_path: Path, no_ray_left: None
) -> None:
    weights, ledger = tmp_path / "weights.safetensors", tmp_path / "runs/raising/ledger.jsonl"
    save_file(build_image_encoder("digits_cnn").state_dict(), weights)
    seen: dict[int, None] = {}

    def watch(driver: psutil.Process) -> None:
        wait_for(lambda: ledger.exists() and "TrialStarted" in ledger.read_text())
        weights.unlink()  # the first trial does without it, the second one fails
        while driver.is_running() and driver.status() != psutil.STATUS_ZOMBIE:
            with contextlib.suppress(psutil.NoSuchProcess):
                seen.update(dict.fromkeys(process.pid for process in training_processes(driver)))
            time.sleep(0.05)

    overrides = _set(
        f"search_space={{encoder_weights: {{choice: [none, {weights}]}}}}",
        f"first_trials=[{{}}, {{encoder_weights: {weights}}}, {{}}, {{}}]",
        "resources.max_concurrent=1",
        "max_retries=0",
    )
    sweep = run_sweep(tmp_path, "raising", *overrides, while_running=watch)
    statuses = [trial.status for trial in sweep.record.trials.values()]
    assert statuses == ["completed", "failed", "completed", "completed"]
    assert "WeightsError: " in sweep.children["trial-0001"].data.tags["reason"]
    # One process for the first two trials, a new one for the two after the failure.
    assert len(seen) == 2


@pytest.mark.parametrize(("embeddings", "num_points"), [("all", "every"), ("none", "front")])
def test_embeddings_are_stored_for_whom_was_asked(
    embeddings: str, num_points: str, tmp_path: Path
) -> None:
    asked = _set(f"tracking.embeddings={embeddings}")
    sweep = run_sweep(tmp_path, embeddings, *HEALTHY, *asked, "--trials", "2")
    wanted = wanted_snapshots(sweep.record, RetentionRule("all" if num_points == "every" else "front"))
    stored = {
        (name, int(folder.path.removeprefix("snapshots/epoch-")))
        for name, child in sweep.children.items()
        for folder in sweep.client.list_artifacts(child.info.run_id, "snapshots")
    }
    assert stored == wanted
    trial, epoch = next(iter(wanted))
    files = sweep.client.list_artifacts(
        sweep.children[trial].info.run_id, f"snapshots/epoch-{epoch:04d}"
    )
    assert any(EMBEDDINGS in file.path for file in files) == (embeddings == "all")


def test_the_front_can_be_seen_while_the_sweep_runs(tmp_path: Path) -> None:
    seen: list[str] = []

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
        driver.send_signal(signal.SIGTERM)

    sweep = run_sweep(tmp_path, "live", *HEALTHY, *LONG, while_running=look)
    assert {"report.html", "pareto_front.csv", "sweep.yaml"} <= set(seen)
    assert sweep.returncode == 130
    assert sweep.record.reason == "interrupted by SIGTERM"


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


def test_interrupt_ends_tidily_with_the_front_so_far(tmp_path: Path, no_ray_left: None) -> None:
    def interrupt(driver: psutil.Process) -> None:
        _wait_for_reports(tmp_path, "interrupted", 4)
        # As Ctrl-C does: the whole group of the terminal gets it.
        driver.send_signal(signal.SIGINT)
        for process in driver.children(recursive=True):
            process.send_signal(signal.SIGINT)

    sweep = run_sweep(tmp_path, "interrupted", *HEALTHY, *LONG, while_running=interrupt)
    assert sweep.returncode == 130
    assert sweep.record.status == "interrupted"
    assert sweep.record.front
    assert "interrupted by SIGINT" in sweep.stdout
    assert sweep.parent.info.status == "KILLED"
    assert {child.info.status for child in sweep.children.values()} == {"KILLED"}
    front = sweep.client.list_artifacts(sweep.parent.info.run_id)
    assert "report.html" in [artifact.path for artifact in front]


def test_time_budget_ends_the_sweep(tmp_path: Path, no_ray_left: None) -> None:
    sweep = run_sweep(tmp_path, "budget", "--time-budget", "25s", *HEALTHY, *LONG)
    assert sweep.returncode == 0
    assert sweep.record.reason == "the time budget of 25 s is used up"
    assert {trial.status for trial in sweep.record.trials.values()} == {"interrupted"}
    assert sweep.record.front


def test_every_trial_failing_is_exit_code_one_with_the_first_cause(
    tmp_path: Path, no_ray_left: None
) -> None:
    diverging = "search_space.optimizer.head_lr={choice: [1.0e+30]}"
    first = "first_trials=[]"
    sweep = run_sweep(tmp_path, "failed", "--trials", "2", "--set", diverging, "--set", first)
    assert sweep.returncode == 1
    assert "no trial succeeded; first cause: trial-000" in " ".join(sweep.stdout.split())
    assert "diverged" in sweep.stdout
    assert sweep.parent.info.status == "FAILED"
    assert {child.info.status for child in sweep.children.values()} == {"FAILED"}


def test_killed_driver_leaves_nothing_that_trains_and_a_readable_ledger(tmp_path: Path) -> None:
    actors: list[psutil.Process] = []

    def kill(driver: psutil.Process) -> None:
        _wait_for_reports(tmp_path, "driver", 2)
        actors.extend(training_processes(driver))
        driver.kill()

    before = ray_processes()
    sweep = run_sweep(tmp_path, "driver", *HEALTHY, *LONG, while_running=kill)
    assert sweep.returncode == -signal.SIGKILL
    assert sweep.record.front
    assert actors
    # Ray's two agents wait a minute for a head that is gone; everything else goes at once.
    wait_for(lambda: not _without_agents(ray_processes() - before), timeout_s=20)


def _without_agents(pids: set[int]) -> set[int]:
    agents = set()
    for pid in pids:
        try:
            if "Agent" in " ".join(psutil.Process(pid).cmdline()):
                agents.add(pid)
        except psutil.NoSuchProcess:
            agents.add(pid)
    return pids - agents
