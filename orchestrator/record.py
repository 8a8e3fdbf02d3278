"""What is known of a sweep: a fold over its events. Pure; no file, no process, no clock.

A point is (trial, epoch). The front is any-time: over all points, not over last results.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from orchestrator.compact import CompactMetrics
from orchestrator.events import (
    Event,
    PointEvaluated,
    RunOpened,
    SweepEnded,
    SweepResumed,
    SweepStarted,
    SweepStatus,
    TrialEnded,
    TrialProposed,
    TrialReported,
    TrialStarted,
    TrialStatus,
)
from orchestrator.pareto import dominates, hypervolume, minimised
from orchestrator.settings import SweepSettings
from trainables.reports import Direction, EpochReport

AnyStatus = Literal["pending", "running"] | TrialStatus


@dataclass(frozen=True)
class Point:
    """One validated epoch of one trial.

    Attributes:
        trial: the trial's name.
        epoch: of the main phase, from 1.
        metrics: all metrics of the epoch.
        values: the objectives, minimised, in their order.
    """

    trial: str
    epoch: int
    metrics: Mapping[str, float]
    values: tuple[float, ...]


@dataclass
class Trial:
    """A trial's story so far.

    Attributes:
        sampler_state: what the sampler wrote down about it.
        front: its own non-dominated points, in order of epoch.
        last_epoch: of its last report; 0 before the first.
        best: its first point with the best value of the first objective, as the paper selects its
            epoch; None before its first finite report.
    """

    name: str
    number: int
    parameters: dict[str, Any]
    config: dict[str, Any]
    sampler_state: dict[str, Any] = field(default_factory=dict)
    status: AnyStatus = "pending"
    reason: str = ""
    details: str = ""
    started: float | None = None
    ended: float | None = None
    training_time_s: float = 0.0
    points: list[Point] = field(default_factory=list)
    front: list[Point] = field(default_factory=list)
    best: Point | None = None
    last_epoch: int = 0

    def copy(self) -> Trial:
        copied = object.__new__(Trial)  # a sweep has thousands, and `copy.copy` takes longer
        vars(copied).update(vars(self), points=list(self.points))
        return copied

    @property
    def is_ended(self) -> bool:
        return self.status not in ("pending", "running")

    @property
    def is_unfinished(self) -> bool:
        """Whether a resume goes on with it."""
        return self.status in ("pending", "running", "interrupted")


class SweepRecord:
    """The state of a sweep after some events.

    Args:
        objectives: metric to direction.
        reference: per objective, the hypervolume's reference in the metric's own direction.

    Attributes:
        num_epochs: of all trials' main phases together.
        hypervolumes: of the front at the end of each trial, in the order in which they ended.
    """

    def __init__(self, objectives: Mapping[str, Direction], reference: Mapping[str, float]) -> None:
        self.objectives = dict(objectives)
        self.reference = dict(reference)
        self._reference = minimised(reference, objectives)
        self.trials: dict[str, Trial] = {}
        self.front: list[Point] = []
        self.evaluations: dict[tuple[str, int], dict[str, float]] = {}
        self.id = ""
        self.run_ids: dict[str, str] = {}
        self.num_epochs = 0
        self.hypervolumes: list[float] = []
        self.earlier_s = 0.0
        self._resumed = self._latest = 0.0
        self._counts: Counter[str] = Counter()
        self.started: float | None = None
        self.ended: float | None = None
        self.status: Literal["running"] | SweepStatus = "running"
        self.reason = ""

    @staticmethod
    def of(settings: SweepSettings, history: Iterable[Event] = ()) -> SweepRecord:
        """The record of a sweep after some events."""
        record = SweepRecord(settings.objectives, settings.reference())
        for event in history:
            record.apply(event)
        return record

    def copy(self) -> SweepRecord:
        """A record that later events leave as it is, so that another thread can read it."""
        copied = copy(self)
        copied.trials = {name: trial.copy() for name, trial in self.trials.items()}
        copied.evaluations = dict(self.evaluations)
        return copied

    def apply(self, event: Event) -> None:
        """Takes in the next event."""
        match event:
            case SweepStarted():
                self.id = event.id
                self.started = self._resumed = event.time
            case SweepResumed():
                self._resume(event)
            case RunOpened():
                self.run_ids[event.trial] = event.run_id
            case TrialProposed():
                self.trials[event.trial] = Trial(
                    event.trial,
                    event.number,
                    event.parameters,
                    event.config,
                    event.sampler_state,
                )
                self._counts["pending"] += 1
            case TrialStarted():
                trial = self.trials[event.trial]
                self._set_status(trial, "running")
                trial.started = trial.started or event.time
            case TrialReported():
                self._add_report(self.trials[event.trial], EpochReport.from_dict(event.report))
            case TrialEnded():
                trial = self.trials[event.trial]
                self._set_status(trial, event.status)
                trial.ended, trial.reason, trial.details = event.time, event.reason, event.details
                if not trial.is_unfinished:
                    self.hypervolumes.append(self.hypervolume())
            case PointEvaluated():
                self.evaluations[event.trial, event.epoch] = event.metrics
            case SweepEnded():
                self.status, self.reason, self.ended = event.status, event.reason, event.time
        self._latest = event.time

    def _resume(self, event: SweepResumed) -> None:
        """Takes up what no driver worked on since the last event."""
        self.earlier_s += self._latest - self._resumed
        self._resumed = event.time
        self.status, self.reason, self.ended = "running", "", None
        for trial in self.trials.values():
            if trial.is_unfinished:
                self._set_status(trial, "pending")
                trial.ended, trial.reason = None, ""

    def _set_status(self, trial: Trial, status: AnyStatus) -> None:
        self._counts[trial.status] -= 1
        self._counts[status] += 1
        trial.status = status

    @property
    def active_s(self) -> float:
        """Seconds that drivers worked on the sweep, up to its latest event."""
        return self.active_until(self._latest)

    def active_until(self, now: float) -> float:
        """Seconds that drivers have worked on the sweep at the time `now`, of the present one's time."""
        return self.earlier_s + now - self._resumed

    @property
    def num_failed_evaluations(self) -> int:
        return sum(not metrics for metrics in list(self.evaluations.values()))

    def _add_report(self, trial: Trial, report: EpochReport) -> None:
        trial.training_time_s += report.metrics.get("validation_time_s", 0.0) + sum(
            epoch["epoch_time_s"] for epoch in report.training.values()
        )
        self.num_epochs += report.epoch - trial.last_epoch
        trial.last_epoch = report.epoch
        values = minimised(report.metrics, self.objectives)
        if not all(math.isfinite(value) for value in values):
            return
        point = Point(trial.name, report.epoch, CompactMetrics(report.metrics), values)
        trial.points.append(point)
        if trial.best is None or values[0] < trial.best.values[0]:
            trial.best = point
        trial.front = with_point(trial.front, point)
        self.front = with_point(self.front, point)

    def hypervolume(self) -> float:
        """Of the front as it is now."""
        return hypervolume([point.values for point in self.front], self._reference)

    def representative(self, trial: Trial) -> Point | None:
        """The point that stands for a trial where only one can: the largest hypervolume by itself.

        Not the largest contribution to the trial's own front: that would prefer a poor point without
        neighbours to a good one among several. None before the trial's first finite report.
        """
        volumes = [hypervolume([point.values], self._reference) for point in trial.front]
        return trial.front[int(np.argmax(volumes))] if volumes else None

    def count(self, *statuses: str) -> int:
        """Number of trials in one of these states."""
        return sum(self._counts[status] for status in statuses)

    @property
    def num_ended(self) -> int:
        """Number of trials that have ended."""
        return self.count(*get_args(TrialStatus))

    def sorted_front(self) -> list[Point]:
        """The front along its first objective, best first."""
        return sorted(self.front, key=lambda point: point.values)


def with_point(front: list[Point], point: Point) -> list[Point]:
    """The front after one more point; of points with equal values the earlier stays."""
    if any(p.values == point.values or dominates(p.values, point.values) for p in front):
        return front
    return [p for p in front if not dominates(point.values, p.values)] + [point]
