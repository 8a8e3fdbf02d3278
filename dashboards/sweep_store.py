"""Sweeps in MLflow: the only module of the pages that talks to it."""

from __future__ import annotations

import contextlib
import difflib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pandas as pd

from dashboards.sweep_results import TEST, SelectedPoint, SweepRun, TrialMetrics, TrialRun, select
from orchestrator.errors import UserError
from orchestrator.tracking_check import check_tracking
from trainables.reports import SELECTED_BY

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run
    from mlflow.store.entities import PagedList

_PARENT = "mlflow.parentRunId"
_SWEEPS = "tags.`mlflow.source.name` = 'orchestrator.sweep'"
_CONFIRMS = "confirms"
"""The tag of a run that repeats another trial's configuration under a further seed, without a test."""
_PAGE_SIZE = 1000
_MAX_NEAREST = 5

_Item = TypeVar("_Item")


class SweepStore:
    """The sweeps of one tracking URI.

    Every method raises `UserError` with one line where MLflow does not answer as it should.

    Args:
        uri: such as sqlite:///mlflow.db or http://HOST:PORT. Nothing is created there.

    Raises:
        UserError: nothing is there.
    """

    def __init__(self, uri: str) -> None:
        _require_store(uri)
        from mlflow import MlflowClient

        self.uri = uri
        with self._one_line():
            self._client = MlflowClient(tracking_uri=uri)

    def sweep(self, name: str) -> SweepRun:
        """The newest sweep of this name with all its trials.

        Raises:
            UserError: there is none.
        """
        with self._one_line():
            parents = self._runs(_SWEEPS)
            same = [run for run in parents if run.data.tags.get("sweep") == name]
            if not same:
                raise self._unknown(name, parents)
            parent = max(same, key=lambda run: run.info.start_time)
            children = self._runs(f"tags.`{_PARENT}` = '{parent.info.run_id}'")
        trials = [
            _trial(run)
            for run in children
            if {"head.kind", "seed"} <= run.data.params.keys() and _CONFIRMS not in run.data.tags
        ]
        return SweepRun(
            name=name,
            run_id=parent.info.run_id,
            status=parent.data.tags.get("status", "running"),
            started=datetime.fromtimestamp(parent.info.start_time / 1000, UTC),
            trials=tuple(sorted(trials, key=lambda trial: (len(trial.name), trial.name))),
            num_of_this_name=len(same),
            data_order=parent.data.tags.get("data_order", ""),
        )

    def metrics(self, trial: TrialRun, names: Sequence[str]) -> TrialMetrics:
        """The histories of these metrics (no `test_` in the names) and of the selecting one."""
        wanted = list(dict.fromkeys([SELECTED_BY[trial.task], *names]))
        return TrialMetrics(self._history(trial, wanted), self._history(trial, wanted, TEST))

    def point(self, trial: TrialRun, names: Sequence[str]) -> SelectedPoint | None:
        """What stands for the trial, without its tables; None where nothing of it was evaluated."""
        return select(trial, self.metrics(trial, names)) if trial.is_evaluated else None

    def evaluation_table(self, trial: TrialRun, epoch: int, file: str) -> pd.DataFrame | None:
        """A Parquet file of a final evaluation; None where MLflow does not have it (yet)."""
        place = f"evaluations/epoch-{epoch:04d}"
        with self._one_line(), tempfile.TemporaryDirectory() as folder:
            present = {item.path for item in self._client.list_artifacts(trial.run_id, place)}
            if f"{place}/{file}" not in present:
                return None
            path = self._client.download_artifacts(trial.run_id, f"{place}/{file}", folder)
            return pd.read_parquet(path)

    def log(self, sweep: SweepRun, place: str, files: Mapping[str, bytes]) -> None:
        """Puts files beside the sweep's own, in the artifact folder `place` of its parent run."""
        with self._one_line(), tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                (Path(folder) / name).write_bytes(content)
            self._client.log_artifacts(sweep.run_id, folder, place)

    def _history(self, trial: TrialRun, names: Sequence[str], prefix: str = "") -> pd.DataFrame:
        columns: dict[str, pd.Series] = {}
        for name in names:
            with self._one_line():
                history = self._client.get_metric_history(trial.run_id, prefix + name)
            columns[name] = _by_epoch(history)
        return pd.DataFrame(columns).sort_index()

    def _runs(self, condition: str) -> list[Run]:
        experiments = [
            e.experiment_id for e in _pages(lambda t: self._client.search_experiments(page_token=t))
        ]
        return _pages(
            lambda token: self._client.search_runs(
                experiments, condition, max_results=_PAGE_SIZE, page_token=token
            )
        )

    def _unknown(self, name: str, parents: Sequence[Run]) -> UserError:
        known = sorted({run.data.tags.get("sweep", "") for run in parents})
        if not known:
            return _empty(self.uri)
        nearest = difflib.get_close_matches(name, known, _MAX_NEAREST, cutoff=0.0)
        return UserError(f"{self.uri} has no sweep {name!r}; it has {', '.join(nearest)}")

    @contextlib.contextmanager
    def _one_line(self) -> Iterator[None]:
        from mlflow.exceptions import MlflowException

        try:
            yield
        except UserError:
            raise
        except (MlflowException, OSError) as error:
            raise UserError(f"{self.uri}: {' '.join(str(error).split())}") from error


def _require_store(uri: str) -> None:
    try:
        check_tracking(uri)
    except UserError as error:
        raise UserError(str(error).replace("tracking.uri", "--uri")) from None
    database = Path(uri.removeprefix("sqlite:///"))
    # MLflow would make the database where there is none.
    if uri.startswith("sqlite:") and not (database.exists() and database.stat().st_size):
        raise _empty(uri)


def _empty(uri: str) -> UserError:
    return UserError(
        f"{uri} has no experiment with a sweep; name another with --uri, "
        "or run one: python -m orchestrator.sweep"
    )


def _trial(run: Run) -> TrialRun:
    trial = TrialRun(
        name=run.data.tags.get("trial", str(run.info.run_name)),
        run_id=run.info.run_id,
        status=run.data.tags.get("status", "pending"),
        params=dict(run.data.params),
        is_evaluated=False,
    )
    return replace(trial, is_evaluated=TEST + SELECTED_BY[trial.task] in run.data.metrics)


def _by_epoch(history: Sequence[Metric]) -> pd.Series:
    """The last value written for each epoch: a lost answer makes the tracker write once more."""
    last = {metric.step: metric.value for metric in sorted(history, key=lambda metric: metric.timestamp)}
    return pd.Series(last, dtype=float)


def _pages(ask: Callable[[str | None], PagedList[_Item]]) -> list[_Item]:
    """All items of a search that answers page by page."""
    items: list[_Item] = []
    token: str | None = None
    while True:
        page = ask(token)
        items += page
        token = page.token
        if not token:
            return items
