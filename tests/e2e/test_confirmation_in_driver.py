"""Drivers that confirm a front, are killed while they do, and go on: without Ray."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from rich.console import Console
from sweep_runs import TINY
from test_imports_in_driver import report, stop_logging

from dashboards.pareto_front import render
from orchestrator.confirmation import confirmations
from orchestrator.driver import Driver
from orchestrator.events import TrialEnded, TrialProposed, TrialReported, TrialStarted
from orchestrator.ledger import read_ledger
from orchestrator.paths import SweepPaths
from orchestrator.resume import Plan, read_history, require_same
from orchestrator.search import confirming_trials
from orchestrator.search_space import to_trial_config
from orchestrator.settings import SweepSettings, load_settings

pytestmark = pytest.mark.slow


def settings_of(folder: Path, num_trials: int, num_seeds: int) -> SweepSettings:
    places = [f"storage={folder}", f"tracking.uri=sqlite:///{folder}/mlflow.db", "search.sampler=tpe"]
    return load_settings(TINY, [*places, f"search.trials={num_trials}", f"confirm.seeds={num_seeds}"])


def open_driver(settings: SweepSettings) -> Driver:
    """A new sweep, or the rest of the one that is there."""
    paths = SweepPaths.of(settings.storage, "s")
    history = read_history(paths) if paths.ledger.exists() else []
    if history:
        require_same(history, settings)
    plan = Plan(settings, "s", paths, history)
    return Driver(plan, [], render, Console(file=io.StringIO(), width=200))


def train(driver: Driver, trial: str, accuracy: float, d_eff: float) -> None:
    """What a trial with one point tells from its start to its end."""
    driver.emit(TrialStarted(trial, time.time()))
    driver.emit(TrialReported(trial, report(3, accuracy, d_eff), time.time()))
    driver.emit(TrialEnded(trial, "completed", "", time.time()))


def search(driver: Driver, accuracy: float, d_eff: float) -> None:
    number, values, state = driver.proposals.ask()
    name, config = f"trial-{number:04d}", to_trial_config(driver.settings.trial, values).model_dump()
    driver.emit(TrialProposed(name, number, values, config, time.time(), state))
    folder = driver.paths.snapshot(name, 3)
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(b"weights")
    train(driver, name, accuracy, d_eff)


def confirm(driver: Driver) -> list[str]:
    """Trains what is left to confirm; the names."""
    driver.leave_unwanted()
    names = []
    for trial in confirming_trials(driver.settings, driver.record, driver.emit):
        names.append(trial.name)
        train(driver, trial.name, 0.5, 30.0)
    return names


def finish(driver: Driver) -> None:
    driver.end("completed", "it is done")
    driver.__exit__(None, None, None)
    stop_logging()
    assert driver.tracker.num_refused == driver.num_unwritten == 0


def runs_of(driver: Driver) -> dict[str, Run]:
    client = MlflowClient(driver.settings.tracking.uri)
    found = client.search_runs([driver.tracker.runs.experiment_id])
    return {str(run.info.run_name): run for run in found}


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """Two trials on the front; of the trials that confirm one has ended and one has reported."""
    driver = open_driver(settings_of(tmp_path, num_trials=2, num_seeds=1))
    search(driver, 0.95, 20.0)
    search(driver, 0.80, 8.0)
    driver.end_search("all 2 trials ended")
    trials = confirming_trials(driver.settings, driver.record, driver.emit)
    train(driver, next(trials).name, 0.9, 22.0)
    second = next(trials)
    driver.emit(TrialStarted(second.name, time.time()))
    driver.tracker.close(60)
    driver.ledger.close()
    stop_logging()
    return tmp_path


def test_a_killed_confirmation_goes_on_under_more_seeds(killed: Path) -> None:
    driver = open_driver(settings_of(killed, num_trials=2, num_seeds=2))
    assert driver.num_to_run == 0
    driver.end_search("all 2 trials ended")
    assert confirm(driver) == ["trial-0001-seed-43", "trial-0000-seed-44", "trial-0001-seed-44"]
    finish(driver)

    proposed = [e.trial for e in read_ledger(driver.paths.ledger) if isinstance(e, TrialProposed)]
    assert len(proposed) == len(set(proposed)) == 6
    assert driver.proposals.states() == {0: "COMPLETE", 1: "COMPLETE"}
    runs = runs_of(driver)
    assert set(runs) == {"s", *proposed}
    for name, trial in driver.record.confirming.items():
        assert runs[name].info.status == "FINISHED"
        assert runs[name].data.tags["confirms"] == trial.confirms
        assert runs[name].data.tags["seed"] == str(trial.config["seed"])
    for (trial, _), found in confirmations(driver.record).items():
        metrics = runs[trial].data.metrics
        assert metrics["confirmed_num_seeds"] == 2
        assert metrics["confirmed_knn_accuracy_mean"] == pytest.approx(found.means["knn_accuracy"])
        assert metrics["confirmed_front_probability"] == found.front_probability


def test_a_search_that_goes_on_leaves_what_is_no_longer_on_the_front(killed: Path) -> None:
    driver = open_driver(settings_of(killed, num_trials=3, num_seeds=1))
    assert driver.num_to_run == 1
    search(driver, 0.85, 7.0)
    driver.end_search("all 3 trials ended")
    assert confirm(driver) == ["trial-0002-seed-43"]
    finish(driver)

    left = driver.record.confirming["trial-0001-seed-43"]
    assert (left.status, left.reason) == ("interrupted", "what it confirms is no longer on the front")
    assert {trial for trial, _ in confirmations(driver.record)} == {"trial-0000", "trial-0002"}
    assert runs_of(driver)["trial-0001-seed-43"].info.status == "KILLED"
    assert driver.proposals.states() == dict.fromkeys(range(3), "COMPLETE")
