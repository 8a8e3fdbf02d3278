"""Drivers that confirm a front, are killed while they do, and go on: without Ray."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from drivers import finish, open_driver, search, settings_of, stop_logging, train
from mlflow import MlflowClient
from mlflow.entities import Run

from orchestrator.confirmation import confirmations
from orchestrator.driver import Driver
from orchestrator.events import TrialProposed, TrialStarted
from orchestrator.ledger import read_ledger
from orchestrator.search import confirming_trials

pytestmark = pytest.mark.slow


def confirm(driver: Driver) -> list[str]:
    """Trains what is left to confirm; the names."""
    driver.leave_unwanted()
    names = []
    for trial in confirming_trials(driver.settings, driver.record, driver.emit):
        names.append(trial.name)
        train(driver, trial.name, 0.5, 30.0)
    return names


def runs_of(driver: Driver) -> dict[str, Run]:
    client = MlflowClient(driver.settings.tracking.uri)
    found = client.search_runs([driver.tracker.runs.experiment_id])
    return {str(run.info.run_name): run for run in found}


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """Two trials on the front; of the trials that confirm one has ended and one has reported."""
    driver = open_driver(settings_of(tmp_path, "search.trials=2", "confirm.seeds=1"))
    search(driver, 0.95, 20.0)
    search(driver, 0.80, 8.0)
    driver.end_search("all 2 trials ended")
    trials = confirming_trials(driver.settings, driver.record, driver.emit)
    train(driver, next(trials).name, 0.9, 22.0)
    second = next(trials)
    driver.emit(TrialStarted(second.name, time.time()))
    driver.tracker.close(60)
    driver.mlflow.close()
    driver.proposals.close()
    driver.ledger.close()
    stop_logging()
    return tmp_path


def test_a_killed_confirmation_goes_on_under_more_seeds(killed: Path) -> None:
    driver = open_driver(settings_of(killed, "search.trials=2", "confirm.seeds=2"))
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
    driver = open_driver(settings_of(killed, "search.trials=3", "confirm.seeds=1"))
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
