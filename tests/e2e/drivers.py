"""Drivers without Ray: what trials would tell them is told by the test."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from sweep_runs import TINY, wait_for

from dashboards.live_pages import LivePages
from orchestrator.driver import Driver
from orchestrator.events import TrialEnded, TrialImported, TrialProposed, TrialReported, TrialStarted
from orchestrator.lease import Lease
from orchestrator.mlflow_process import MlflowProcess
from orchestrator.paths import SweepPaths
from orchestrator.resume import Plan, is_there, read_history, require_same
from orchestrator.search_space import to_trial_config
from orchestrator.settings import SweepSettings, load_settings
from orchestrator.sweep_log import LOGGERS
from trainables.reports import MANIFEST, METRICS, EpochReport
from trainables.whole_folder import whole_folder


def settings_of(folder: Path, *overrides: str) -> SweepSettings:
    places = [f"storage={folder}", f"tracking.uri=sqlite:///{folder}/mlflow.db"]
    return load_settings(TINY, [*places, "search.sampler=tpe", *overrides])


def open_driver(
    settings: SweepSettings, imports: Sequence[TrialImported] = (), lease: Lease | None = None
) -> Driver:
    """A new sweep, or the rest of the one that is there."""
    paths = SweepPaths.of(settings.storage, "s")
    history = read_history(paths) if is_there(paths) else []
    if history:
        require_same(history, settings)
    plan = Plan(settings, "s", paths, history, imports, lease)
    mlflow = MlflowProcess(settings.tracking.uri, paths.log)
    return Driver(plan, [], mlflow, LivePages, Console(file=io.StringIO(), width=200))


def report(epoch: int, accuracy: float, d_eff: float) -> dict[str, object]:
    metrics = dict.fromkeys(METRICS, 0.5) | {"knn_accuracy": accuracy, "d_eff": d_eff}
    return EpochReport(epoch, metrics).to_dict()


def train(driver: Driver, trial: str, accuracy: float, d_eff: float) -> None:
    """What a trial with one point tells from its start to its end."""
    driver.emit(TrialStarted(trial, time.time()))
    driver.emit(TrialReported(trial, report(3, accuracy, d_eff), time.time()))
    driver.emit(TrialEnded(trial, "completed", "", time.time()))


def search(driver: Driver, accuracy: float, d_eff: float) -> None:
    """The next trial of the search, with its snapshot."""
    number, values, state = wait_for(driver.proposals.ask)
    name, config = f"trial-{number:04d}", to_trial_config(driver.settings.trial, values).model_dump()
    driver.emit(TrialProposed(name, number, values, config, time.time(), state))
    with whole_folder(driver.paths.snapshot(name, 3)) as folder:
        (folder / "weights.safetensors").write_bytes(b"weights")
        (folder / MANIFEST).write_bytes(b"{}")
    train(driver, name, accuracy, d_eff)


def finish(driver: Driver) -> str:
    """Ends the sweep; what was printed."""
    driver.end("completed", "it is done")
    driver.__exit__(None, None, None)
    stop_logging()
    driver.retention.finish(driver.record)
    driver.print_outcome()
    assert driver.tracker.num_refused == driver.num_unwritten == 0
    assert isinstance(driver.console.file, io.StringIO)
    return driver.console.file.getvalue()


def stop_logging() -> None:
    """Takes back what a driver, which has a process to itself, does to all loggers."""
    logging.captureWarnings(False)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        for handler in logger.handlers:
            handler.close()
        logger.handlers, logger.propagate, logger.level = [], True, logging.NOTSET
