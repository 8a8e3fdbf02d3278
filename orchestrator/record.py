"""What is known of a sweep: a fold over its events. Pure; no file, no process, no clock.

A point is (trial, epoch). The front is any-time: over all points, not over last results; constraints
come before dominance.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from copy import copy
from typing import Literal, get_args

import numpy as np

from orchestrator.compact import CompactMetrics
from orchestrator.constraints import Constraints, Expression
from orchestrator.events import (
    Event,
    PointEvaluated,
    RunOpened,
    SearchEnded,
    SweepEnded,
    SweepResumed,
    SweepStarted,
    SweepStatus,
    TrialEnded,
    TrialImported,
    TrialProposed,
    TrialReported,
    TrialStarted,
    TrialStatus,
)
from orchestrator.pareto import hypervolume, minimised
from orchestrator.pick import PickRule, choose, needs_baseline, parse_pick
from orchestrator.settings import SweepSettings
from orchestrator.trials import AnyStatus, Point, Trial, with_point
from trainables.reports import Direction, EpochReport

BASELINE_HEAD = "none"


class SweepRecord:
    """The state of a sweep after some events.

    Args:
        objectives: metric to direction.
        reference: per objective, the hypervolume's reference in the metric's own direction; an
            expression is worked out once the baseline is known.
        constraints: what a point must hold to count.
        pick: the rule that names one point of the front, as `orchestrator.pick` reads it.

    Attributes:
        trials: of the search, by name; the counts and the budgets are theirs.
        imported: trials of earlier sweeps, by name; nothing of them is in this sweep's folder or MLflow
            runs, and they count in front, hypervolume and proposals alone.
        confirming: the trials that repeat a configuration of the front, by name; they count in none.
        search_ended: when the present driver ended the search; None before.
        baseline: the best point of the first trial of the search without a head that neither failed nor
            was stopped, once that trial completed; None before, and where nothing in the settings names
            the baseline.
        names_baseline: whether constraints, reference or pick do.
        reference: None until all of it is known.
        front: of the feasible points the non-dominated ones; while none is feasible the one that is
            nearest to it.
        unconstrained_front: the non-dominated points, whatever the constraints.
        candidates: the points that may come onto the front once the baseline is known; empty then.
        num_epochs: of all own trials' main phases together.
        hypervolumes: of the front at the end of each trial, in the order in which they ended, from
            the moment on where it has one.
    """

    def __init__(
        self,
        objectives: Mapping[str, Direction],
        reference: Mapping[str, float | Expression],
        constraints: Constraints | None = None,
        pick: str | None = None,
    ) -> None:
        self.objectives = dict(objectives)
        self.constraints = constraints or Constraints()
        self.baseline: Point | None = None
        self._wanted_reference = dict(reference)
        self.pick = pick or ""
        self._pick: PickRule | None = parse_pick(pick) if pick else None
        self.names_baseline = (
            self.constraints.need_baseline
            or any(isinstance(value, Expression) for value in reference.values())
            or (self._pick is not None and needs_baseline(self._pick))
        )
        self._set_reference()
        self.trials: dict[str, Trial] = {}
        self.imported: dict[str, Trial] = {}
        self.confirming: dict[str, Trial] = {}
        self.front: list[Point] = []
        self.unconstrained_front: list[Point] = []
        self.candidates: list[Point] = []
        self._front_violation = math.inf
        self.evaluations: dict[tuple[str, int], dict[str, float]] = {}
        self.id = ""
        self.run_ids: dict[str, str] = {}
        self.num_epochs = 0
        self.hypervolumes: list[float] = []
        self.earlier_s = self.earlier_search_s = 0.0
        self.search_ended: float | None = None
        self._resumed = self._latest = 0.0
        self._counts: Counter[str] = Counter()
        self.started: float | None = None
        self.ended: float | None = None
        self.status: Literal["running"] | SweepStatus = "running"
        self.reason = ""

    @staticmethod
    def of(settings: SweepSettings, history: Iterable[Event] = ()) -> SweepRecord:
        """The record of a sweep after some events."""
        record = SweepRecord(
            settings.objectives,
            settings.reference(),
            Constraints.of(settings.constraints),
            settings.pick,
        )
        for event in history:
            record.apply(event)
        return record

    def copy(self) -> SweepRecord:
        """A record that later events leave as it is, so that another thread can read it."""
        copied = copy(self)
        copied.trials = {name: trial.copy() for name, trial in self.trials.items()}
        copied.confirming = {name: trial.copy() for name, trial in self.confirming.items()}
        copied.evaluations = dict(self.evaluations)
        return copied

    def apply(self, event: Event) -> None:
        """Takes in the next event."""
        match event:
            case SweepStarted():
                self.id = event.id
                self.started = self._resumed = event.time
            case TrialImported():
                self._import(event)
            case SweepResumed():
                self._resume(event)
            case RunOpened():
                self.run_ids[event.trial] = event.run_id
            case TrialProposed():
                trial = Trial(
                    event.trial,
                    event.number,
                    event.parameters,
                    event.config,
                    event.sampler_state,
                    confirms=event.confirms,
                )
                (self.confirming if trial.confirms else self.trials)[trial.name] = trial
                self._counts["pending"] += not trial.confirms
            case TrialStarted():
                trial = self.trial(event.trial)
                self._set_status(trial, "running")
                trial.started = trial.started or event.time
            case TrialReported():
                self._add_report(self.trial(event.trial), EpochReport.from_dict(event.report))
            case TrialEnded():
                trial = self.trial(event.trial)
                self._set_status(trial, event.status)
                trial.ended, trial.reason, trial.details = event.time, event.reason, event.details
                self._look_for_baseline()
                if self.has_hypervolume and not (trial.is_unfinished or trial.confirms):
                    self.hypervolumes.append(self.hypervolume())
            case SearchEnded():
                self.search_ended = event.time
            case PointEvaluated():
                self.evaluations[event.trial, event.epoch] = event.metrics
            case SweepEnded():
                self.status, self.reason, self.ended = event.status, event.reason, event.time
        self._latest = event.time

    def _resume(self, event: SweepResumed) -> None:
        """Takes up what no driver worked on since the last event."""
        self.earlier_s += self._latest - self._resumed
        self.earlier_search_s = self.searched_s
        self._resumed, self.search_ended = event.time, None
        self.status, self.reason, self.ended = "running", "", None
        for trial in self.own_trials:
            if trial.is_unfinished:
                self._set_status(trial, "pending")
                trial.ended, trial.reason = None, ""

    def _import(self, event: TrialImported) -> None:
        trial = self.imported[event.trial] = Trial(
            event.trial,
            len(self.imported),
            event.parameters,
            event.config,
            status="imported",
            source=event.source,
        )
        for report in event.reports:
            self._add_point(trial, EpochReport.from_dict(report))

    def _set_status(self, trial: Trial, status: AnyStatus) -> None:
        if not trial.confirms:
            self._counts[trial.status] -= 1
            self._counts[status] += 1
        trial.status = status

    def trial(self, name: str) -> Trial:
        """The trial of this name, searched, imported or confirming."""
        for trials in (self.trials, self.imported):
            if name in trials:
                return trials[name]
        return self.confirming[name]

    @property
    def own_trials(self) -> list[Trial]:
        """The trials that this sweep runs: those of the search, then those that confirm."""
        return [*list(self.trials.values()), *list(self.confirming.values())]

    @property
    def active_s(self) -> float:
        """Seconds that drivers worked on the sweep, up to its latest event."""
        return self.active_until(self._latest)

    def active_until(self, now: float) -> float:
        """Seconds that drivers have worked on the sweep at the time `now`, of the present one's time."""
        return self.earlier_s + now - self._resumed

    @property
    def searched_s(self) -> float:
        """Seconds that drivers searched, up to the latest event: what a time budget is of."""
        return self.searched_until(self._latest)

    def searched_until(self, now: float) -> float:
        """The same at the time `now`."""
        end = now if self.search_ended is None else self.search_ended
        return self.earlier_search_s + end - self._resumed

    @property
    def num_failed_evaluations(self) -> int:
        return sum(not metrics for metrics in list(self.evaluations.values()))

    def _add_report(self, trial: Trial, report: EpochReport) -> None:
        trial.training_time_s += report.metrics.get("validation_time_s", 0.0) + sum(
            epoch["epoch_time_s"] for epoch in report.training.values()
        )
        if not trial.confirms:
            self.num_epochs += report.epoch - trial.last_epoch
        trial.last_epoch = report.epoch
        self._add_point(trial, report)

    def _add_point(self, trial: Trial, report: EpochReport) -> None:
        values = minimised(report.metrics, self.objectives)
        if not all(math.isfinite(value) for value in values):
            return
        point = Point(trial.name, report.epoch, CompactMetrics(report.metrics), values)
        trial.points.append(point)
        if trial.best is None or values[0] < trial.best.values[0]:
            trial.best = point
        trial.front = with_point(trial.front, point)
        if trial.confirms:
            return
        if not self.constraints:
            self.front = self.unconstrained_front = with_point(self.front, point)
            return
        self.unconstrained_front = with_point(self.unconstrained_front, point)
        if self.constraints.need_baseline and self.baseline is None:
            self.candidates = self._with_candidate(point)
        self._add_to_front(point)

    def _add_to_front(self, point: Point) -> None:
        """Constraints before dominance (Deb et al. 2002, NSGA-II, section VI)."""
        violation = self.violation(point.metrics)
        if violation < self._front_violation or not self.front:
            self.front, self._front_violation = [point], violation
        elif violation == self._front_violation == 0:
            self.front = with_point(self.front, point)

    def _with_candidate(self, point: Point) -> list[Point]:
        """Those that are non-dominated where the constraints' left sides are objectives too."""

        def extended(p: Point) -> Point:
            values = (*p.values, *self.constraints.minimised(p.metrics))
            return Point(p.trial, p.epoch, p.metrics, values)

        kept = with_point([extended(p) for p in self.candidates], extended(point))
        return [Point(p.trial, p.epoch, p.metrics, p.values[: len(self.objectives)]) for p in kept]

    def is_baseline(self, trial: str) -> bool:
        """Whether a trial is, or is to become, the one that constraints or reference name."""
        return self.names_baseline and trial == self._baseline_trial()

    def _baseline_trial(self) -> str | None:
        if self.baseline is not None:
            return self.baseline.trial
        return next(
            (
                trial.name
                for trial in self.trials.values()
                if trial.config["head"]["kind"] == BASELINE_HEAD
                and trial.status not in ("failed", "stopped")
            ),
            None,
        )

    def _look_for_baseline(self) -> None:
        """Once it is known, everything that waited for it is judged."""
        if not self.names_baseline or self.baseline is not None:
            return
        name = self._baseline_trial()
        if name is None or self.trials[name].status != "completed":
            return
        self.baseline = self.trials[name].best
        self._set_reference()
        if self.baseline is not None and self.constraints.need_baseline:
            waiting = self.candidates
            self.candidates, self.front, self._front_violation = [], [], math.inf
            for point in waiting:
                self._add_to_front(point)

    def _set_reference(self) -> None:
        given: Mapping[str, float | Expression] = self._wanted_reference
        self.reference: dict[str, float] | None = None
        if self.baseline is not None:
            metrics = self.baseline.metrics
            given = {
                n: v.value({}, metrics) if isinstance(v, Expression) else v for n, v in given.items()
            }
        numbers: dict[str, float] = {
            name: value for name, value in given.items() if not isinstance(value, Expression)
        }
        if len(numbers) == len(given) and all(map(math.isfinite, numbers.values())):
            self.reference = numbers
            self._reference = minimised(numbers, self.objectives)

    def violation(self, metrics: Mapping[str, float]) -> float:
        """By how much a point breaks the constraints; 0 where it holds all that can be judged yet."""
        return self.constraints.violation(metrics, self._baseline_metrics)

    def excesses(self, metrics: Mapping[str, float]) -> list[float]:
        """Of each constraint; 0 or less where the point holds it."""
        return self.constraints.excesses(metrics, self._baseline_metrics)

    @property
    def _baseline_metrics(self) -> Mapping[str, float] | None:
        return None if self.baseline is None else self.baseline.metrics

    @property
    def is_feasible(self) -> bool:
        """Whether the points of the front hold the constraints; so does an empty one."""
        return not self.front or not self.constraints or self._front_violation == 0

    @property
    def picked(self) -> Point | None:
        """The point of the front that the settings' rule names; None where there is none."""
        if self._pick is None or not self.is_feasible:
            return None
        return choose(self._pick, self.sorted_front(), self.objectives, self._baseline_metrics)

    @property
    def counted_trials(self) -> list[Trial]:
        """The trials whose points count in the front: the imported ones, then those of the search."""
        return [*self.imported.values(), *self.trials.values()]

    def own_front(self) -> list[Point]:
        """The front's points whose snapshots and runs are this sweep's."""
        return [point for point in self.front if point.trial in self.trials]

    @property
    def has_hypervolume(self) -> bool:
        """Whether the reference is known and all constraints can be judged."""
        waits = self.constraints.need_baseline and self.baseline is None
        return self.reference is not None and not waits

    def hypervolume(self) -> float:
        """Of the feasible front as it is now; 0 while the reference is not known."""
        if self.reference is None or not self.is_feasible:
            return 0.0
        return hypervolume([point.values for point in self.front], self._reference)

    def representative(self, trial: Trial) -> Point | None:
        """The point that stands for a trial where only one can: of the feasible ones, or of those
        nearest to it, the largest hypervolume by itself.

        Not the largest contribution to the trial's own front: that would prefer a poor point without
        neighbours to a good one among several. None before the trial's first finite report.
        """
        points = trial.front
        if self.constraints:
            violations = [self.violation(point.metrics) for point in trial.points]
            least = min(violations, default=0.0)
            points = [p for p, v in zip(trial.points, violations, strict=True) if v == least]
        if self.reference is None:
            return min(points, key=lambda point: point.values[0], default=None)
        volumes = [hypervolume([point.values], self._reference) for point in points]
        return points[int(np.argmax(volumes))] if volumes else None

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
