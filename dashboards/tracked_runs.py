"""A sweep's runs in MLflow as plain values. Pure; `dashboards.sweep_store` reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from orchestrator.mlflow_values import DRIVERS, DriverTimes, read_times

Written = tuple[float, float]
"""When a metric was reported, and its value: a plain tuple, since large sweeps have millions."""
Histories = Mapping[str, Mapping[int, Written]]
"""Of a run: metric to epoch to what was written last."""


@dataclass(frozen=True)
class ParentRun:
    """A sweep's own run.

    Attributes:
        run_id: MLflow's.
        experiment_id: of the experiment that it is in.
        tags: all of them.
        started: when MLflow made it.
        ended: by MLflow; None while it runs, and where a kill ended it.
        latest: the newest value of each metric.
    """

    run_id: str
    experiment_id: str
    tags: Mapping[str, str]
    started: float
    ended: float | None
    latest: Mapping[str, float | None]

    @property
    def name(self) -> str:
        return self.tags.get("sweep", "")

    @property
    def status(self) -> str:
        return self.tags.get("status", "running")

    @property
    def drivers(self) -> list[DriverTimes]:
        """Of a sweep that was tracked before there were such times, what MLflow itself says."""
        rows = read_times(self.tags.get(DRIVERS, ""))
        return [DriverTimes(*row) for row in rows] or [DriverTimes(self.started, None, self.ended)]


@dataclass(frozen=True)
class ChildRun:
    """A trial's run.

    Attributes:
        run_id: MLflow's.
        trial: the trial's name.
        is_open: whether MLflow says that it runs, as it does of pending trials too.
        tags: those that tell of the trial: status, reason, warning, confirms, ran.
        params: its settings by dotted name, as text; empty where they are not written yet.
        proposed: when.
        ended: when, if it has.
        latest: the newest value of each metric that tells of the trial; None for NaN, which is unlike
            itself.
    """

    run_id: str
    trial: str
    is_open: bool
    tags: Mapping[str, str]
    params: Mapping[str, str]
    proposed: float
    ended: float | None
    latest: Mapping[str, float | None]

    @property
    def num_epochs(self) -> int:
        """That it can have at most."""
        text = self.params.get("epochs", "")
        return int(text) if text.isdecimal() else 1


class SweepSummary(NamedTuple):
    """A sweep in a list of sweeps.

    Attributes:
        name: the sweep's.
        run_id: of its own run.
        experiment_id: of the experiment that it is in.
        status: running, completed, failed or interrupted; one that was killed says that it runs.
        reason: why it ended; empty while it runs.
        started: seconds since the epoch.
        ended: the same; None while it runs.
        objectives: such as "knn_accuracy max, d_eff min".
        num_planned: its budget of trials; None where it is not known.
        num_failed: trials that failed; None before the first has ended.
        front_size: points; None before the first trial has ended.
        hypervolume: None where it is not known.
    """

    name: str
    run_id: str
    experiment_id: str
    status: str
    reason: str
    started: float
    ended: float | None
    objectives: str
    num_planned: int | None = None
    num_failed: int | None = None
    front_size: int | None = None
    hypervolume: float | None = None


def summary(parent: ParentRun, params: Mapping[str, str]) -> SweepSummary:
    """What a list says of a sweep.

    Args:
        parent: its own run.
        params: of that run.
    """
    drivers, planned = parent.drivers, params.get("search.trials", "")
    return SweepSummary(
        name=parent.name,
        run_id=parent.run_id,
        experiment_id=parent.experiment_id,
        status=parent.status,
        reason=parent.tags.get("reason", ""),
        started=drivers[0].started or parent.started,
        ended=None if parent.status == "running" else drivers[-1].ended or parent.ended,
        objectives=parent.tags.get("objectives", ""),
        num_planned=int(planned) if planned.isdecimal() else None,
        num_failed=_whole(parent.latest.get("failed_trials")),
        front_size=_whole(parent.latest.get("front_size")),
        hypervolume=parent.latest.get("hypervolume"),
    )


def in_groups(lengths: Mapping[str, int], max_runs: int, max_rows: int) -> Iterator[list[str]]:
    """Runs in groups that are asked for at once.

    Args:
        lengths: run id to the most epochs that it can have.
        max_runs: of a group.
        max_rows: that an answer about one metric of a group can have; a run that alone may have more is
            a group.
    """
    group: list[str] = []
    rows = 0
    for run_id, length in lengths.items():
        if group and (len(group) == max_runs or rows + length > max_rows):
            yield group
            group, rows = [], 0
        group.append(run_id)
        rows += length
    if group:
        yield group


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)
