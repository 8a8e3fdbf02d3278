"""Reads a sweep from MLflow into plain values, for the pages that are made from what was tracked.

The only module of the pages that talks to MLflow: `SweepStore` reads and logs, everything else is pure.
"""

from __future__ import annotations

import contextlib
import difflib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pandas as pd

from orchestrator.errors import UserError
from orchestrator.tracking_check import check_tracking
from trainables.config import DATASET_FACTS
from trainables.reports import SELECTED_BY, Task

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run
    from mlflow.store.entities import PagedList

TEST = "test_"
"""What the names of a final evaluation's metrics begin with."""
EXECUTION_SETTINGS = frozenset({"device", "channels_last", "compile", "deterministic", "bucketing"})
"""Settings that say how a trial is executed, not what it computes."""
_NOT_OF_A_CONFIGURATION = EXECUTION_SETTINGS | {"seed", "preset"}
_PARENT = "mlflow.parentRunId"
_SWEEPS = "tags.`mlflow.source.name` = 'orchestrator.sweep'"
_CONFIRMS = "confirms"
"""The tag of a run that repeats another trial's configuration under a further seed, without a test."""
_PAGE_SIZE = 1000
_MAX_NEAREST = 5

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class TrialRun:
    """A trial as one query tells it.

    Attributes:
        name: such as trial-0003; numbered in the order of proposal.
        run_id: its run in MLflow.
        status: pending, running, completed, failed, stopped or interrupted.
        params: every setting by dotted name, as text.
        is_evaluated: whether any of its epochs had a final evaluation.
    """

    name: str
    run_id: str
    status: str
    params: dict[str, str]
    is_evaluated: bool

    @property
    def head(self) -> str:
        return self.params["head.kind"]

    @property
    def seed(self) -> str:
        return self.params["seed"]

    @property
    def task(self) -> Task:
        """What its embeddings are judged by; images' labels where its dataset is not known here."""
        dataset = self.params.get("dataset", "")
        known: dict[str, Task] = {name: facts.task for name, facts in DATASET_FACTS.items()}
        return known.get(dataset, "classification")

    @property
    def settings(self) -> dict[str, str]:
        """What makes its configuration: every setting but the seed, execution, and the preset's name."""
        return {n: v for n, v in self.params.items() if n not in _NOT_OF_A_CONFIGURATION}


@dataclass(frozen=True)
class SweepRun:
    """A sweep as MLflow has it now.

    Attributes:
        name: the sweep's.
        run_id: the parent run.
        status: running, completed, failed or interrupted.
        started: when.
        trials: in the order of proposal; without those whose settings are not written yet, and those
            that confirm others under further seeds.
        num_of_this_name: sweeps that have this name; this is the newest.
        data_order: "original" where the data's rows are in the order of the authors' archive, so that
            the split is the paper's; "of the source" where nothing says so; else "".
    """

    name: str
    run_id: str
    status: str
    started: datetime
    trials: tuple[TrialRun, ...]
    num_of_this_name: int = 1
    data_order: str = ""


@dataclass(frozen=True)
class Configuration:
    """Trials that differ in their seed only, in the order of proposal."""

    settings: dict[str, str]
    trials: tuple[TrialRun, ...]

    @property
    def head(self) -> str:
        return self.settings["head.kind"]


@dataclass(frozen=True)
class TrialMetrics:
    """Metrics of one trial, one row an epoch (the index), one column a metric.

    Attributes:
        validation: the epochs that were validated.
        test: those that had a final evaluation; names without their `test_`.
    """

    validation: pd.DataFrame
    test: pd.DataFrame


@dataclass(frozen=True)
class SelectedPoint:
    """The epoch that stands for a trial.

    Attributes:
        trial: whose.
        epoch: the evaluated epoch that is best on validation.
        better_epoch: one that is better on validation and was not evaluated, if any.
        validation: metrics of that epoch by name.
        test: metrics of that epoch by name, without `test_`.
        truncation: its task's Truncation, of trainables.evaluation or similarity_evaluation, one a row;
            None where it is not in MLflow.
        untouched: the same of the encoder as it was before training, of pairs of sentences only.
    """

    trial: TrialRun
    epoch: int
    better_epoch: int | None
    validation: dict[str, float]
    test: dict[str, float]
    truncation: pd.DataFrame | None = None
    untouched: pd.DataFrame | None = None


def configurations(trials: Sequence[TrialRun]) -> list[Configuration]:
    """The trials by what they compute, in the order in which each was first proposed."""
    groups: dict[tuple[tuple[str, str], ...], list[TrialRun]] = {}
    for trial in trials:
        groups.setdefault(tuple(sorted(trial.settings.items())), []).append(trial)
    return [Configuration(group[0].settings, tuple(group)) for group in groups.values()]


def first_by_head(trials: Sequence[TrialRun]) -> dict[str, Configuration]:
    """For each head kind the configuration that was proposed first, evaluated or not."""
    first: dict[str, Configuration] = {}
    for configuration in configurations(trials):
        first.setdefault(configuration.head, configuration)
    return first


def select(trial: TrialRun, metrics: TrialMetrics) -> SelectedPoint | None:
    """The evaluated epoch that is best on validation, the earliest of equals, if there is any.

    What is best its task's metric says, of `trainables.reports.SELECTED_BY`; test metrics have no say in
    it.
    """
    quality = _column(metrics.validation, SELECTED_BY[trial.task])
    evaluated = [epoch for epoch in quality if epoch in metrics.test.index]
    if not evaluated:
        return None
    epoch, best = (max(epochs, key=quality.__getitem__) for epochs in (evaluated, quality))
    return SelectedPoint(
        trial=trial,
        epoch=epoch,
        better_epoch=best if quality[best] > quality[epoch] else None,
        validation=_row(metrics.validation, epoch),
        test=_row(metrics.test, epoch),
    )


def _column(metrics: pd.DataFrame, name: str) -> dict[int, float]:
    """A metric by epoch, in the order of epochs."""
    values = metrics[name].dropna().sort_index()
    return dict(zip(values.index.tolist(), values.tolist(), strict=True))


def _row(metrics: pd.DataFrame, epoch: int) -> dict[str, float]:
    return {str(name): float(value) for name, value in metrics.loc[epoch].dropna().items()}


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
