"""Keeps on disk exactly the snapshots whose points are worth keeping, their trials' traces, and the
checkpoints of trials that are unfinished.

Workers write a snapshot when its point is on the front of its own trial (`OwnFront`); the driver
removes it when the point is not, or no longer, on the sweep's front.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from operator import is_not
from pathlib import Path

from orchestrator.constraints import Constraints
from orchestrator.events import Event, TrialEnded, TrialReported
from orchestrator.operation_queue import Operation
from orchestrator.pareto import minimised
from orchestrator.paths import SweepPaths, snapshots_of
from orchestrator.record import SweepRecord
from orchestrator.settings import EmbeddingsOf, EvaluatedPoints
from orchestrator.trials import Point, Trial, with_point
from trainables.places import Place, exists, is_url, remove
from trainables.reports import Direction, EpochReport

Key = tuple[str, int]


@dataclass(frozen=True)
class RetentionRule:
    """Which snapshots a sweep keeps beside the front's.

    Attributes:
        embeddings: "all" keeps each trial's own front.
        evaluated: "best" keeps each trial's best point in the first objective.
    """

    embeddings: EmbeddingsOf = "front"
    evaluated: EvaluatedPoints = "front"


def wanted_snapshots(record: SweepRecord, rule: RetentionRule) -> set[Key]:
    """The (trial, epoch) of each snapshot to keep.

    The front's, also without the constraints, and what may come onto it once the baseline is known;
    those of the final evaluation; each trial's own front's where all embeddings are wanted.
    """
    wanted = _own_keys(record, *_wanted_of_sweep(record))
    for trial in record.trials.values():
        wanted |= _wanted_of_trial(trial, rule)
    return wanted


def _wanted_of_sweep(record: SweepRecord) -> tuple[list[Point], ...]:
    """The points that are wanted whatever the rule; a list that changes is another list."""
    front = record.front
    return front.points, front.unconstrained, front.candidates


def _wanted_of_trial(trial: Trial, rule: RetentionRule) -> set[Key]:
    """What is wanted of a trial whether it is on the sweep's front or not."""
    wanted = {(trial.name, point.epoch) for point in trial.front if rule.embeddings == "all"}
    if rule.evaluated == "best" and trial.best:
        wanted.add((trial.name, trial.best.epoch))
    return wanted


def _own_keys(record: SweepRecord, *lists: list[Point]) -> set[Key]:
    """Of the points that are not imported."""
    every = (point for points in lists for point in points)
    return {(point.trial, point.epoch) for point in every if point.trial in record.trials}


class WantedSnapshots:
    """`wanted_snapshots` of a record that grows, event by event, at the cost of what each changes."""

    def __init__(self, rule: RetentionRule) -> None:
        self._rule = rule
        self._lists: tuple[list[Point], ...] = ()
        self._of_sweep: set[Key] = set()
        self._of_trials: dict[str, set[Key]] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._of_sweep or key in self._of_trials.get(key[0], ())

    def of(self, trial: str) -> set[Key]:
        """Those of one trial."""
        return self._of_trials.get(trial, set()) | {key for key in self._of_sweep if key[0] == trial}

    def update(self, record: SweepRecord, *trials: str) -> set[Key]:
        """Takes in the events of these trials since the last update.

        Returns:
            Snapshots to look at again: all that were wanted and are not, or the other way round.
        """
        changed: set[Key] = set()
        lists = _wanted_of_sweep(record)
        if len(lists) != len(self._lists) or any(map(is_not, lists, self._lists)):
            before, self._lists, self._of_sweep = self._of_sweep, lists, _own_keys(record, *lists)
            changed |= before ^ self._of_sweep
        for name in record.trials.keys() & set(trials):
            before = self._of_trials.get(name, set())
            now = _wanted_of_trial(record.trials[name], self._rule)
            if now != before:
                self._of_trials[name] = now
                changed |= before ^ now
        return changed


class OwnFront:
    """Makes, for each trial, the test whether an epoch is on the trial's own front so far, where the
    constraints' left sides are objectives too: no other epoch can come onto the sweep's.
    """

    def __init__(
        self, objectives: Mapping[str, Direction], constraints: Constraints | None = None
    ) -> None:
        self._objectives = dict(objectives)
        self._constraints = constraints or Constraints()

    def __call__(self) -> Callable[[EpochReport], bool]:
        front: list[Point] = []

        def is_wanted(report: EpochReport) -> bool:
            nonlocal front
            values = minimised(report.metrics, self._objectives)
            if not all(math.isfinite(value) for value in values):
                return False
            values += self._constraints.minimised(report.metrics)
            point = Point("", report.epoch, report.metrics, values)
            front = with_point(front, point)
            return point in front

        return is_wanted


def _do(operation: Operation) -> None:
    operation()


class Retention:
    """The listener that removes snapshots and checkpoints that are not, or no longer, wanted.

    A report tells of one snapshot; at a trial's end its folder is looked through for what a worker
    wrote and did not live to report.

    Args:
        paths: of the sweep.
        rule: which snapshots are kept.
        put: has a removal done, in order; at once where left out.
    """

    def __init__(
        self, paths: SweepPaths, rule: RetentionRule, put: Callable[[Operation], None] = _do
    ) -> None:
        self._paths = paths
        self._wanted = WantedSnapshots(rule)
        self._put = put
        self._stored: dict[str, set[Key]] = {}

    def __call__(self, event: Event, record: SweepRecord) -> None:
        match event:
            case TrialReported():
                key = event.trial, int(event.report["epoch"])
                self._stored.setdefault(event.trial, set()).add(key)
            case TrialEnded():
                if not record.trial(event.trial).is_unfinished:  # a resume goes on from it
                    self._put(partial(remove, self._paths.checkpoints(event.trial)))
            case _:
                return
        for place in self._unwanted(record, event.trial):
            self._put(partial(remove, place))
        if isinstance(event, TrialEnded):
            self._remove_unreported(record.trial(event.trial))

    def resume(self, record: SweepRecord) -> None:
        """Takes stock of what an earlier driver left, before a worker writes any of it again.

        Raises:
            OSError: a store does not do it.
        """
        stored = self._paths.stored()
        over = {trial.name for trial in record.own_trials if not trial.is_unfinished}
        own = {trial.name for trial in record.own_trials}
        for kind, trial in stored:
            if kind == "checkpoints" and trial in over:
                remove(self._paths.checkpoints(trial))
            if kind == "snapshots" and trial in record.trials:
                self._take_stock(record.trials[trial], stored)
        if self._paths.url:  # of trials that came after what the ledger's copy tells
            for trial in {trial for _, trial in stored} - own:
                for place in self._paths.written_for(trial):
                    remove(place)
        traced = {trial for kind, trial in stored if kind == "traces"}
        for place in self._unwanted(record, *record.trials, traced=traced):
            remove(place)

    def finish(self, record: SweepRecord) -> None:
        """Leaves exactly what is wanted, once nobody writes any more.

        Raises:
            OSError: a store does not do it.
        """
        self.resume(record)
        for place in self._paths.torn():
            remove(place)
        for trial in record.own_trials:
            for folder in self._paths.written_for(trial.name):
                if not is_url(folder):
                    _remove_leftovers(Path(folder))

    def _take_stock(self, trial: Trial, stored: Mapping[tuple[str, str], set[str]]) -> None:
        """Notes a trial's snapshots; those that were never reported go, but where a checkpoint is there,
        from which their report may come.
        """
        found = snapshots_of(trial.name, stored["snapshots", trial.name])
        is_going_on = trial.is_unfinished and stored.get(("checkpoints", trial.name))
        strays = {key for key in found if key[1] > trial.last_epoch and not is_going_on}
        for key in strays:
            remove(self._paths.snapshot(*key))
        self._stored.setdefault(trial.name, set()).update(found - strays)

    def _remove_unreported(self, trial: Trial) -> None:
        """Has the folder of a trial that ended looked through."""
        known = frozenset(self._stored.get(trial.name, set()) | self._wanted.of(trial.name))
        awaited_after = trial.last_epoch if trial.is_unfinished else math.inf
        self._put(lambda: self._remove_others(trial.name, known, awaited_after))

    def _remove_others(self, trial: str, known: frozenset[Key], awaited_after: float) -> None:
        """Removes a trial's snapshots but these, and those whose report may come from its checkpoint.

        Args:
            trial: the trial's name.
            known: the snapshots that are told of.
            awaited_after: the last epoch that is told of; infinite where nothing comes any more.
        """
        others = self._paths.stored_snapshots(trial) - known
        is_going_on = awaited_after < math.inf and exists(self._paths.checkpoint(trial))
        for key in others:
            if not (is_going_on and key[1] > awaited_after):
                remove(self._paths.snapshot(*key))

    def _unwanted(
        self, record: SweepRecord, *trials: str, traced: set[str] | None = None
    ) -> list[Place]:
        """What these trials, and those that just lost a point on the front, have in vain.

        Args:
            record: after the events of these trials.
            trials: whose events came since the last time.
            traced: the trials with traces, where that is known.
        """
        changed = self._wanted.update(record, *trials)
        places: list[Place] = []
        for name in {*trials, *(trial for trial, _ in changed)}:
            trial, stored = record.trial(name), self._stored.get(name, set())
            unwanted = {key for key in stored if key not in self._wanted and not _is_new(key, trial)}
            stored -= unwanted
            places += [self._paths.snapshot(*key) for key in unwanted]
            # Traces stay with trials that have a snapshot; one that is over does not get one later.
            has_traces = traced is None or name in traced
            if has_traces and not trial.is_unfinished and not self._wanted.of(name):
                places.append(self._paths.traces(name))
        return places


def _is_new(key: Key, trial: Trial) -> bool:
    """Whether the report of a snapshot that was found may still come."""
    return trial.is_unfinished and key[1] > trial.last_epoch


def _remove_leftovers(folder: Path) -> None:
    """Removes what writers that were killed left half-written, and the folder where it is empty."""
    for partial_ in folder.glob(".*"):
        if partial_.is_dir():
            remove(partial_)
        else:
            partial_.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not there, or not empty
        folder.rmdir()
