"""A sweep in MLflow as its trials' results, for the paper's tables.

Called by `dashboards.tables`, `dashboards.report` and `dashboards.head_results`.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pandas as pd

from dashboards.sweep_results import TEST, SelectedPoint, SweepRun, TrialMetrics, TrialRun, select
from dashboards.sweep_store import SweepStore
from dashboards.tracked_runs import ChildRun, Histories
from orchestrator.mlflow_values import CONFIRMS, evaluation_folder
from trainables.reports import SELECTED_BY


def read_sweep(store: SweepStore, name: str) -> SweepRun:
    """The newest sweep of this name, or the one with this run id, with all its trials.

    Raises:
        UserError: there is none.
    """
    parent, num_of_this_name = store.find(name)
    trials = [
        _trial(child)
        for child in store.children(parent)
        if {"head.kind", "seed"} <= child.params.keys() and CONFIRMS not in child.tags
    ]
    return SweepRun(
        name=parent.tags.get("sweep", name),
        run_id=parent.run_id,
        status=parent.status,
        started=datetime.fromtimestamp(parent.started, UTC),
        trials=tuple(sorted(trials, key=lambda trial: (len(trial.name), trial.name))),
        num_of_this_name=num_of_this_name,
        data_order=parent.tags.get("data_order", ""),
    )


def read_metrics(store: SweepStore, trial: TrialRun, names: Sequence[str]) -> TrialMetrics:
    """The histories of these metrics (no `test_` in the names) and of the selecting one."""
    wanted = list(dict.fromkeys([SELECTED_BY[trial.task], *names]))
    histories = store.histories([trial.run_id], [*wanted, *[TEST + name for name in wanted]])
    of_trial = histories[trial.run_id]
    return TrialMetrics(_by_epoch(of_trial, wanted), _by_epoch(of_trial, wanted, TEST))


def read_point(store: SweepStore, trial: TrialRun, names: Sequence[str]) -> SelectedPoint | None:
    """What stands for the trial, without its tables; None where nothing of it was evaluated."""
    return select(trial, read_metrics(store, trial, names)) if trial.is_evaluated else None


def read_evaluation_table(
    store: SweepStore, trial: TrialRun, epoch: int, file: str
) -> pd.DataFrame | None:
    """A Parquet file of a final evaluation; None where MLflow does not have it (yet)."""
    content = store.content(trial.run_id, f"{evaluation_folder(epoch)}/{file}")
    return None if content is None else pd.read_parquet(io.BytesIO(content))


def _trial(child: ChildRun) -> TrialRun:
    trial = TrialRun(
        name=child.trial,
        run_id=child.run_id,
        status=child.tags.get("status", "pending"),
        params=dict(child.params),
        is_evaluated=False,
    )
    return replace(trial, is_evaluated=TEST + SELECTED_BY[trial.task] in child.latest)


def _by_epoch(histories: Histories, names: Sequence[str], prefix: str = "") -> pd.DataFrame:
    """Metrics as columns, one row an epoch."""
    columns = {
        name: pd.Series(
            {epoch: value for epoch, (_, value) in histories.get(prefix + name, {}).items()}, dtype=float
        )
        for name in names
    }
    return pd.DataFrame(columns).sort_index()
