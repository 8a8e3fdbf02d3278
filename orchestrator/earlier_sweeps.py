"""Reads an earlier sweep, for `--import`: from its ledger, or from MLflow where that is all there is.

A ledger is neither locked nor mended, and in MLflow nothing is made: the sweep may be running.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.errors import UserError
from orchestrator.events import Event, TrialEnded, TrialImported, TrialProposed, TrialReported
from orchestrator.imports import EarlierSweep, EarlierTrial
from orchestrator.ledger import read_ledger
from orchestrator.mlflow_values import CONFIRMS, PARENT, REPORTED, SWEEPS, finite_or_not
from orchestrator.resume import candidate_folders, is_there
from orchestrator.settings import SweepSettings, parse_name
from orchestrator.trial_settings import by_dotted_name, from_text
from trainables.reports import METRICS, EpochReport

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

MLFLOW = "mlflow:"
"""Before a name: only MLflow is asked for it."""
_PAGE_SIZE = 1000


def read_earlier(name: str, settings: SweepSettings) -> EarlierSweep:
    """The sweep of this name in the storage, in a folder of this path, or in the tracking store.

    Args:
        name: as it was given.
        settings: of the new sweep, whose storage and tracking store are looked at.

    Raises:
        UserError: it is in none of them, or it cannot be read.
    """
    folders = [] if name.startswith(MLFLOW) else candidate_folders(name, settings.storage)
    for paths in folders:
        if is_there(paths):
            return from_events(name, paths.name, read_ledger(paths.ledger))
    uri = settings.tracking.uri
    if found := _read_mlflow(name, uri):
        return found
    places = [*(str(paths.place) for paths in folders), uri]
    if folders and "/" in name:
        places = [str(folders[-1].place)]
    raise UserError(
        f"--import {name}: there is no such sweep in {' or '.join(places)}; "
        "name one, the path of its folder, or mlflow:NAME"
    )


def from_events(name: str, sweep: str, events: Iterable[Event]) -> EarlierSweep:
    """The sweep that a ledger tells of; what it had imported itself comes with it, and what it confirmed
    does not: those trials repeat others.

    Args:
        name: as it was given.
        sweep: its name.
        events: of its ledger.
    """
    configs: dict[str, tuple[str, Mapping[str, Any]]] = {}
    reports: dict[str, list[EpochReport]] = {}
    failed: set[str] = set()
    for event in events:
        match event:
            case TrialImported():
                configs[event.trial] = (event.source, event.config)
                reports[event.trial] = [EpochReport.from_dict(report) for report in event.reports]
            case TrialProposed() if not event.confirms:
                configs[event.trial] = (f"{sweep}/{event.trial}", event.config)
            case TrialReported():
                report = EpochReport.from_dict(event.report)
                kept = EpochReport(report.epoch, report.metrics)
                reports.setdefault(event.trial, []).append(kept)
            case TrialEnded() if event.status == "failed":
                failed.add(event.trial)
            case _:
                pass
    return EarlierSweep(
        name,
        [
            EarlierTrial(source, trial in failed, by_dotted_name(config), reports.get(trial, []))
            for trial, (source, config) in configs.items()
        ],
    )


def _read_mlflow(name: str, uri: str) -> EarlierSweep | None:
    """The newest sweep of this name in a tracking store; None where there is none."""
    sweep = name.removeprefix(MLFLOW)
    try:
        parse_name(sweep)
    except ValueError:
        return None  # no sweep can have it
    database = Path(uri.removeprefix("sqlite:///"))
    # MLflow would make the database where there is none.
    if uri.startswith("sqlite:") and not (database.exists() and database.stat().st_size):
        return None
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        client = MlflowClient(tracking_uri=uri)
        parents = _runs(client, f"tags.sweep = '{sweep}' and {SWEEPS}")
        parents = [run for run in parents if PARENT not in run.data.tags]
        if not parents:
            return None
        parent = max(parents, key=lambda run: run.info.start_time)
        children = _runs(client, f"tags.`{PARENT}` = '{parent.info.run_id}'")
        trials = [
            _trial(client, run, sweep)
            for run in children
            if run.data.params and not run.data.tags.get(CONFIRMS)
        ]
    except (MlflowException, OSError) as error:
        raise UserError(f"--import {name}: {uri}: {' '.join(str(error).split())}") from error
    return EarlierSweep(name, sorted(trials, key=lambda trial: (len(trial.source), trial.source)))


def _runs(client: MlflowClient, condition: str) -> list[Run]:
    """All runs, of any experiment, that meet a condition."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs(experiments, condition, max_results=_PAGE_SIZE, page_token=token)
        runs += page
        token = page.token
        if not token:
            return runs


def _trial(client: MlflowClient, run: Run, sweep: str) -> EarlierTrial:
    name = run.data.tags.get("trial", str(run.info.run_name))
    return EarlierTrial(
        f"{sweep}/{name}",
        run.data.tags.get("status") == "failed",
        from_text(run.data.params),
        _reports(client, run),
    )


def _reports(client: MlflowClient, run: Run) -> list[EpochReport]:
    """The epochs that were validated; the last value of each metric, since an answer that was lost
    makes the tracker write once more.
    """
    if REPORTED not in run.data.metrics:
        return []
    values: dict[str, dict[int, float]] = {}
    for name in METRICS.keys() & run.data.metrics.keys():
        history = client.get_metric_history(run.info.run_id, name)
        written = sorted(history, key=lambda metric: metric.timestamp)
        values[name] = {metric.step: finite_or_not(metric.value) for metric in written}
    return [
        EpochReport(epoch, {n: values[n][epoch] for n in METRICS if epoch in values.get(n, {})})
        for epoch in sorted(values[REPORTED])
    ]
