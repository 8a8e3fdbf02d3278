"""Sweeps to which something happens."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest
from sweep_runs import ray_processes, run_sweep, wait_for

pytestmark = pytest.mark.slow


def _set(*overrides: str) -> tuple[str, ...]:
    return tuple(part for override in overrides for part in ("--set", override))


LONG = _set("trial.epochs=400", "trial.patience_epochs=null", "trial.validate_every=1")
HEALTHY = _set("first_trials=[{head.kind: none}]", "search_space.optimizer.head_lr={choice: [2.0e-3]}")


def _actors(driver: psutil.Process) -> list[psutil.Process]:
    """The processes that train trials of this sweep."""
    found = []
    for process in driver.children(recursive=True):
        try:
            if any("ImplicitFunc" in part for part in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def _wait_for_reports(folder: Path, name: str, num_reports: int) -> None:
    ledger = folder / "runs" / name / "ledger.jsonl"
    wait_for(lambda: ledger.exists() and ledger.read_text().count("TrialReported") >= num_reports)


def test_killed_trial_is_recorded_and_the_others_go_on(tmp_path: Path, no_ray_left: None) -> None:
    def kill_one(driver: psutil.Process) -> None:
        _wait_for_reports(tmp_path, "killed", 3)
        wait_for(lambda: _actors(driver))[0].kill()

    epochs = _set("trial.epochs=40", "trial.patience_epochs=null")
    sweep = run_sweep(tmp_path, "killed", *HEALTHY, *epochs, while_running=kill_one)
    assert sweep.returncode == 0
    failed = [trial for trial in sweep.record.trials.values() if trial.status == "failed"]
    assert len(failed) == 1
    assert "its process died" in failed[0].reason
    assert sweep.record.count("completed") == 3
    assert sweep.children[failed[0].name].info.status == "FAILED"


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
    assert "pareto_front.html" in [artifact.path for artifact in front]


def test_time_budget_ends_the_sweep(tmp_path: Path, no_ray_left: None) -> None:
    sweep = run_sweep(tmp_path, "budget", "--time-budget", "15s", *HEALTHY, *LONG)
    assert sweep.returncode == 0
    assert sweep.record.reason == "the time budget of 15 s is used up"
    assert {trial.status for trial in sweep.record.trials.values()} == {"stopped"}
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
        actors.extend(_actors(driver))
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
