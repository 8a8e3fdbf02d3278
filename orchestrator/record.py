"""What is known of a sweep: a fold over its events. Pure; no file, no process, no clock.

A point is (trial, epoch). The front is any-time: over all points, not over last results.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from orchestrator.events import (
    Event,
    PointEvaluated,
    SweepEnded,
    SweepStarted,
    SweepStatus,
    TrialEnded,
    TrialProposed,
    TrialReported,
    TrialStarted,
    TrialStatus,
)
from orchestrator.pareto import dominates, hypervolume, minimised
from trainables.reports import Direction, EpochReport


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
        front: its own non-dominated points, in order of epoch.
        best: its first point with the best value of the first objective, as the paper selects its
            epoch; None before its first finite report.
    """

    name: str
    number: int
    parameters: dict[str, Any]
    config: dict[str, Any]
    status: Literal["pending", "running"] | TrialStatus = "pending"
    reason: str = ""
    details: str = ""
    started: float | None = None
    ended: float | None = None
    training_time_s: float = 0.0
    points: list[Point] = field(default_factory=list)
    front: list[Point] = field(default_factory=list)
    best: Point | None = None

    @property
    def is_ended(self) -> bool:
        return self.status not in ("pending", "running")


class SweepRecord:
    """The state of a sweep after some events.

    Args:
        objectives: metric to direction.
        reference: per objective, the hypervolume's reference in the metric's own direction.
    """

    def __init__(self, objectives: Mapping[str, Direction], reference: Mapping[str, float]) -> None:
        self.objectives = dict(objectives)
        self.reference = dict(reference)
        self._reference = minimised(reference, objectives)
        self.trials: dict[str, Trial] = {}
        self.front: list[Point] = []
        self.evaluations: dict[tuple[str, int], dict[str, float]] = {}
        self.num_failed_evaluations = 0
        self.started: float | None = None
        self.ended: float | None = None
        self.status: Literal["running"] | SweepStatus = "running"
        self.reason = ""

    def apply(self, event: Event) -> None:
        """Takes in the next event."""
        match event:
            case SweepStarted():
                self.started = event.time
            case TrialProposed():
                self.trials[event.trial] = Trial(
                    event.trial, event.number, event.parameters, event.config
                )
            case TrialStarted():
                trial = self.trials[event.trial]
                trial.status, trial.started = "running", event.time
            case TrialReported():
                self._add_report(self.trials[event.trial], EpochReport.from_dict(event.report))
            case TrialEnded():
                trial = self.trials[event.trial]
                trial.status, trial.ended = event.status, event.time
                trial.reason, trial.details = event.reason, event.details
            case PointEvaluated():
                self.evaluations[event.trial, event.epoch] = event.metrics
                self.num_failed_evaluations += bool(event.reason)
            case SweepEnded():
                self.status, self.reason, self.ended = event.status, event.reason, event.time

    def _add_report(self, trial: Trial, report: EpochReport) -> None:
        trial.training_time_s += report.metrics.get("validation_time_s", 0.0) + sum(
            epoch["epoch_time_s"] for epoch in report.training.values()
        )
        values = minimised(report.metrics, self.objectives)
        if not all(math.isfinite(value) for value in values):
            return
        point = Point(trial.name, report.epoch, report.metrics, values)
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
        # A copy, since the terminal asks from a thread of its own.
        return sum(trial.status in statuses for trial in list(self.trials.values()))

    def sorted_front(self) -> list[Point]:
        """The front along its first objective, best first."""
        return sorted(self.front, key=lambda point: point.values)


def with_point(front: list[Point], point: Point) -> list[Point]:
    """The front after one more point; of points with equal values the earlier stays."""
    if any(p.values == point.values or dominates(p.values, point.values) for p in front):
        return front
    return [p for p in front if not dominates(point.values, p.values)] + [point]
