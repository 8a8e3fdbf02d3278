"""A driver with imported trials, and the one that resumes it, without Ray."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from mlflow import MlflowClient
from rich.console import Console
from sweep_runs import TINY

from dashboards.pareto_front import render
from orchestrator.driver import Driver
from orchestrator.events import (
    Event,
    SweepResumed,
    SweepStarted,
    TrialEnded,
    TrialImported,
    TrialProposed,
    TrialReported,
    TrialStarted,
)
from orchestrator.ledger import read_ledger
from orchestrator.paths import SweepPaths
from orchestrator.resume import Plan, read_history
from orchestrator.search_space import to_trial_config
from orchestrator.settings import SweepSettings, load_settings
from trainables.reports import METRICS, EpochReport

pytestmark = pytest.mark.slow


def report(epoch: int, accuracy: float, d_eff: float) -> dict[str, object]:
    metrics = dict.fromkeys(METRICS, 0.5) | {"knn_accuracy": accuracy, "d_eff": d_eff}
    return EpochReport(epoch, metrics).to_dict()


def imported(settings: SweepSettings, number: int, accuracy: float, d_eff: float) -> TrialImported:
    values = {"head.kind": "none", "optimizer.head_lr": 2e-3}
    config = to_trial_config(settings.trial, values).model_dump()
    name, source = f"import-{number:04d}", f"earlier/trial-{number:04d}"
    return TrialImported(name, source, values, config, [report(3, accuracy, d_eff)], time=1.0)


def drive(plan: Plan, *points: tuple[float, float]) -> tuple[Driver, str]:
    """Runs a sweep whose every trial reports one point; says what was printed at its end."""
    console = Console(file=io.StringIO(), width=200)
    with Driver(plan, [], render, console) as driver:
        for accuracy, d_eff in points:
            number, values, state = driver.proposals.ask()
            name = f"trial-{number:04d}"
            config = to_trial_config(plan.settings.trial, values).model_dump()
            folder = driver.paths.snapshot(name, 3)
            folder.mkdir(parents=True)
            (folder / "weights.safetensors").write_bytes(b"weights")
            events: Sequence[Event] = (
                TrialProposed(name, number, values, config, time.time(), state),
                TrialStarted(name, time.time()),
                TrialReported(name, report(3, accuracy, d_eff), time.time()),
                TrialEnded(name, "completed", "", time.time()),
            )
            for event in events:
                driver.emit(event)
        driver.end("completed", "it is done")
    stop_logging()
    driver.retention.finish(driver.record)
    driver.print_outcome()
    assert isinstance(console.file, io.StringIO)
    return driver, console.file.getvalue()


def stop_logging() -> None:
    """Takes back what a driver, which has a process to itself, does to all loggers."""
    logging.captureWarnings(False)
    for name in ("orchestrator", "trainables", "dashboards", "mlflow", "ray", "py.warnings"):
        logger = logging.getLogger(name)
        for handler in logger.handlers:
            handler.close()
        logger.handlers, logger.propagate, logger.level = [], True, logging.NOTSET


def test_imports_count_and_leave_nothing_but_their_points(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    places = [f"storage={tmp_path}", f"tracking.uri={uri}", "search.sampler=tpe", "search.trials=9"]
    settings = load_settings(TINY, places)
    paths = SweepPaths.of(settings.storage, "s")
    imports = [imported(settings, 0, 0.9, 3.0), imported(settings, 1, 0.5, 9.0)]
    first, text = drive(Plan(settings, "s", paths, imports=imports), (0.95, 20.0), (0.8, 8.0))

    events = list(read_ledger(paths.ledger))
    assert [type(event) for event in events[:3]] == [SweepStarted, TrialImported, TrialImported]
    times = [event.time for event in events]
    assert times[:3] == sorted(times[:3]) and times[2] <= min(times[3:])
    assert [(p.trial, p.epoch) for p in first.record.front.sorted()] == [
        ("trial-0000", 3),
        ("import-0000", 3),
    ]
    assert {p.name for p in (paths.root / "snapshots").iterdir()} == {"trial-0000"}
    assert "(1 imported)" in text
    assert "from earlier/trial-0000: kind none" in text
    assert first.tracker.num_refused == 0

    client = MlflowClient(uri)
    runs = client.search_runs([first.tracker.runs.experiment_id])
    assert sorted(str(run.info.run_name) for run in runs) == ["s", "trial-0000", "trial-0001"]
    marks = {run.info.run_name: run.data.tags.get("on_front") for run in runs}
    assert marks == {"s": None, "trial-0000": "true", "trial-0001": "false"}

    again, _ = drive(Plan(settings, "s", paths, read_history(paths)), (0.97, 30.0))
    assert sum(isinstance(event, SweepResumed) for event in read_ledger(paths.ledger)) == 1
    assert sum(isinstance(event, TrialImported) for event in read_ledger(paths.ledger)) == 2
    assert [trial.number for trial in again.record.trials.values()] == [0, 1, 2]
    assert {p.trial for p in again.record.front} == {"trial-0002", "trial-0000", "import-0000"}
    studies = [driver.proposals.study.get_trials() for driver in (first, again)]
    assert [trial.values for trial in studies[1][:4]] == [trial.values for trial in studies[0]]
    assert [trial.params for trial in studies[1][:4]] == [trial.params for trial in studies[0]]
