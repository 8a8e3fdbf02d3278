"""Which trials stand for each head kind in the paper's tables, with their numbers.

`dashboards.paper_tables` makes the tables of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from dashboards.sweep_results import Configuration, SelectedPoint, SweepRun, TrialRun, first_by_head
from dashboards.sweep_store import SweepStore
from dashboards.tracked_results import read_evaluation_table, read_point
from orchestrator.errors import UserError
from trainables.reports import TRUNCATION, UNTOUCHED, Task

PAPER_NAMES = {"none": "Baseline", "mlp": "Std. MLP head", "monotonic": "MonoCon"}
METRICS: dict[Task, tuple[str, ...]] = {
    "classification": ("knn_accuracy", "recall_at_1", "recall_at_5", "d_eff", "reconstruction_error"),
    "similarity": (
        "spearman",
        "untouched_spearman",
        "untouched_pca_spearman",
        "d_eff",
        "reconstruction_error",
    ),
}
"""What is read of every trial that is shown, by its task."""
SAME_TASK = (
    "dataset",
    "data.source",
    "data.scored_pairs",
    "data.num_classes",
    "data.num_training_items",
    "encoder",
    "encoder_weights",
)
"""Settings in which all configurations of a table agree."""


class NothingToShowError(UserError):
    """The tables have no numbers to show."""


class HeadResult(NamedTuple):
    """What a head kind's columns are made of.

    Attributes:
        configuration: the one that is shown.
        points: what stands for each of its trials that was evaluated, one a seed.
        repeats: evaluated trials that repeat a seed and are left out.
    """

    configuration: Configuration
    points: tuple[SelectedPoint, ...]
    repeats: tuple[TrialRun, ...] = ()


def shown_configurations(sweep: SweepRun) -> dict[str, Configuration]:
    """For each head kind the configuration proposed first, of those on the first evaluated trial's task.

    Raises:
        NothingToShowError: no trial had a final evaluation.
    """
    first = next((trial for trial in sweep.trials if trial.is_evaluated), None)
    if first is None:
        raise NothingToShowError(
            f"sweep {sweep.name!r} ({sweep.status}) has no trial with a final evaluation; a sweep makes "
            "them once its trials have ended: let one end with --set evaluation.points=best"
        )
    found = first_by_head([trial for trial in sweep.trials if task_of(trial) == task_of(first)])
    return {head: found[head] for head in PAPER_NAMES if head in found}


def task_of(trial: TrialRun) -> tuple[str | None, ...]:
    """What has to be equal for two trials to stand in one table."""
    return tuple(trial.params.get(name) for name in SAME_TASK)


def shown_task(results: Mapping[str, HeadResult]) -> Task:
    """What all that is shown is judged by."""
    return next(iter(results.values())).configuration.trials[0].task


def settings_of(results: Mapping[str, HeadResult]) -> dict[str, str]:
    """The settings of the first head; in those of the task all agree."""
    return next(iter(results.values())).configuration.settings


def read_results(store: SweepStore, sweep: SweepRun) -> dict[str, HeadResult]:
    """The shown configurations with the numbers of their trials.

    Raises:
        NothingToShowError: none of them has any.
    """
    results = {}
    for head, configuration in shown_configurations(sweep).items():
        points: dict[str, SelectedPoint] = {}
        repeats = []
        for trial in configuration.trials:
            if trial.is_evaluated and trial.seed in points:
                repeats.append(trial)
            elif point := read_point(store, trial, METRICS[trial.task]):
                points[trial.seed] = _with_tables(store, point)
        results[head] = HeadResult(configuration, tuple(points.values()), tuple(repeats))
    if not any(result.points for result in results.values()):
        names = ", ".join(f"{head} {r.configuration.trials[0].name}" for head, r in results.items())
        raise NothingToShowError(
            f"sweep {sweep.name!r}: no final evaluation of the configurations that were proposed first "
            f"({names}), which the tables show; run it with --set evaluation.points=best"
        )
    return results


def _with_tables(store: SweepStore, point: SelectedPoint) -> SelectedPoint:
    """The point with the tables of its evaluation that there are."""
    found = replace(point, truncation=read_evaluation_table(store, point.trial, point.epoch, TRUNCATION))
    if point.trial.task == "similarity":
        found = replace(
            found, untouched=read_evaluation_table(store, point.trial, point.epoch, UNTOUCHED)
        )
    return found
