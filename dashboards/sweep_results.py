"""A sweep as it was tracked, as plain values, and which of its points stands for what. Pure.

`dashboards.tracked_results` reads it from MLflow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from trainables.facts import DATASET_FACTS
from trainables.reports import SELECTED_BY, Task

TEST = "test_"
"""What the names of a final evaluation's metrics begin with."""
EXECUTION_SETTINGS = frozenset({"device", "channels_last", "compile", "deterministic", "bucketing"})
"""Settings that say how a trial is executed, not what it computes."""
_NOT_OF_A_CONFIGURATION = EXECUTION_SETTINGS | {"seed", "preset"}


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
