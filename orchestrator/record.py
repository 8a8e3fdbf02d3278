"""What is known of a sweep: a fold over its events. Pure; no file, no process, no clock."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from copy import copy
from typing import Literal, get_args

from orchestrator.compact import CompactMetrics
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
    TrialRetried,
    TrialStarted,
    TrialStatus,
)
from orchestrator.front import Front
from orchestrator.pareto import minimised
from orchestrator.settings import EvaluatedPoints, SweepSettings
from orchestrator.trials import AnyStatus, Point, Trial, with_point
from trainables.reports import EpochReport

BASELINE_HEAD = "none"


class SweepRecord:
    """The state of a sweep after some events.

    Args:
        front: before its first point; it is this record's from here on.
        evaluated: which points the final evaluation is for.

    Attributes:
        trials: of the search, by name; the counts and the budgets are theirs.
        imported: trials of earlier sweeps, by name; nothing of them is in this sweep's folder or MLflow
            runs, and they count in front, hypervolume and proposals alone.
        confirming: the trials that repeat a configuration of the front, by name; they count in none.
        search_ended: when the present driver ended the search; None before.
        front: over the points of the trials of the search and the imported ones.
        num_epochs: of all own trials' main phases together.
        hypervolumes: of the front at the end of each trial, in the order in which they ended, from
            the moment on where it has one.
    """

    def __init__(self, front: Front, evaluated: EvaluatedPoints = "front") -> None:
        self.front = front
        self._evaluated: EvaluatedPoints = evaluated
        self.trials: dict[str, Trial] = {}
        self.imported: dict[str, Trial] = {}
        self.confirming: dict[str, Trial] = {}
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
        record = SweepRecord(Front.of(settings), settings.evaluation.points)
        for event in history:
            record.apply(event)
        return record

    def copy(self) -> SweepRecord:
        """A record that later events leave as it is, so that another thread can read it."""
        copied = copy(self)
        copied.front = copy(self.front)
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
            case TrialStarted() | TrialReported() | TrialRetried() | TrialEnded():
                self._apply_to(self.trial(event.trial), event)
            case SearchEnded():
                self.search_ended = event.time
            case PointEvaluated():
                self.evaluations[event.trial, event.epoch] = event.metrics
            case SweepEnded():
                self.status, self.reason, self.ended = event.status, event.reason, event.time
        self._latest = event.time

    def _apply_to(
        self, trial: Trial, event: TrialStarted | TrialReported | TrialRetried | TrialEnded
    ) -> None:
        match event:
            case TrialStarted():
                self._set_status(trial, "running")
                trial.started = trial.started or event.time
            case TrialReported():
                self._add_report(trial, EpochReport.from_dict(event.report))
            case TrialRetried():
                self._set_status(trial, "pending")
                trial.num_retries += event.is_counted
            case TrialEnded():
                self._set_status(trial, event.status)
                trial.ended, trial.reason, trial.details = event.time, event.reason, event.details
                self._look_for_baseline()
                if self.front.has_hypervolume and not (trial.is_unfinished or trial.confirms):
                    self.hypervolumes.append(self.front.hypervolume())

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
        """Points that want a final evaluation and whose last one failed; one that has left the front
        since wants none.
        """
        failed = {key for key, metrics in list(self.evaluations.items()) if not metrics}
        return len(failed & self.evaluated_points()) if failed else 0

    @property
    def num_unevaluated(self) -> int:
        """Points that want a final evaluation and have none, those whose last one failed included."""
        done = {key for key, metrics in list(self.evaluations.items()) if metrics}
        return len(self.evaluated_points() - done)

    def _add_report(self, trial: Trial, report: EpochReport) -> None:
        trial.training_time_s += report.metrics.get("validation_time_s", 0.0) + sum(
            epoch["epoch_time_s"] for epoch in report.training.values()
        )
        if not trial.confirms:
            self.num_epochs += report.epoch - trial.last_epoch
        trial.last_epoch = report.epoch
        self._add_point(trial, report)

    def _add_point(self, trial: Trial, report: EpochReport) -> None:
        values = minimised(report.metrics, self.front.objectives)
        if not all(math.isfinite(value) for value in values):
            return
        point = Point(trial.name, report.epoch, CompactMetrics(report.metrics), values)
        trial.points.append(point)
        if trial.best is None or values[0] < trial.best.values[0]:
            trial.best = point
        trial.front = with_point(trial.front, point)
        if not trial.confirms:
            self.front.add(point)

    def set_pick(self, pick: str | None) -> None:
        """Takes another rule for the front's point, as a resume may bring one."""
        self.front.set_pick(pick)
        self._look_for_baseline()

    def is_baseline(self, trial: str) -> bool:
        """Whether a trial is, or is to become, the one that constraints or reference name."""
        return self.front.names_baseline and trial == self._baseline_trial()

    def _baseline_trial(self) -> str | None:
        if self.front.baseline is not None:
            return self.front.baseline.trial
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
        """The best point of the first trial of the search without a head that neither failed nor was
        stopped, once that trial completed.
        """
        if self.front.names_baseline and self.front.baseline is None and self.baseline is not None:
            self.front.set_baseline(self.baseline)

    @property
    def baseline(self) -> Point | None:
        """The baseline, whether anything names it or not; None before it is known."""
        name = self._baseline_trial()
        if self.front.baseline is not None or name is None:
            return self.front.baseline
        return self.trials[name].best if self.trials[name].status == "completed" else None

    @property
    def counted_trials(self) -> list[Trial]:
        """The trials whose points count in the front: the imported ones, then those of the search."""
        return [*self.imported.values(), *self.trials.values()]

    def own_front(self) -> list[Point]:
        """The front's points whose snapshots and runs are this sweep's."""
        return [point for point in self.front if point.trial in self.trials]

    def evaluated_points(self) -> set[tuple[str, int]]:
        """The (trial, epoch) of each point that the final evaluation is for."""
        if self._evaluated == "none":
            return set()
        points = self.own_front()
        if self._evaluated == "best":
            points += [trial.best for trial in self.trials.values() if trial.best]
        return {(point.trial, point.epoch) for point in points}

    def count(self, *statuses: str) -> int:
        """Number of trials in one of these states."""
        return sum(self._counts[status] for status in statuses)

    @property
    def num_ended(self) -> int:
        """Number of trials that have ended."""
        return self.count(*get_args(TrialStatus))
