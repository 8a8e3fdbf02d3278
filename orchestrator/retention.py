"""Keeps on disk exactly the snapshots whose points are worth keeping, their trials' traces, and the
checkpoints of trials that are unfinished.

Workers write a snapshot when its point is on the front of its own trial (`OwnFront`); the driver
removes it when the point is not, or no longer, on the sweep's front.
"""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import is_not
from pathlib import Path

from orchestrator.constraints import Constraints
from orchestrator.events import Event, TrialEnded, TrialReported
from orchestrator.pareto import minimised
from orchestrator.paths import SweepPaths
from orchestrator.record import SweepRecord
from orchestrator.settings import EmbeddingsOf, EvaluatedPoints
from orchestrator.trials import Point, Trial, with_point
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


def evaluated_points(record: SweepRecord, of: EvaluatedPoints) -> set[Key]:
    """The (trial, epoch) of each point that the final evaluation is for."""
    if of == "none":
        return set()
    points = record.own_front()
    if of == "best":
        points += [trial.best for trial in record.trials.values() if trial.best]
    return {(point.trial, point.epoch) for point in points}


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


class Retention:
    """The listener that removes snapshots and checkpoints that are not, or no longer, wanted.

    A report tells of one snapshot; at a trial's end its folder is looked through for what a worker
    wrote and did not live to report.
    """

    def __init__(self, paths: SweepPaths, rule: RetentionRule) -> None:
        self._paths = paths
        self._wanted = WantedSnapshots(rule)
        self._stored: dict[str, set[Key]] = {}

    def __call__(self, event: Event, record: SweepRecord) -> None:
        match event:
            case TrialReported():
                self._stored.setdefault(event.trial, set()).add(
                    (event.trial, int(event.report["epoch"]))
                )
            case TrialEnded():
                self._take_stock(event.trial)
                self._remove_unwanted_checkpoints(record.trial(event.trial))
            case _:
                return
        self._remove_unwanted(record, event.trial)

    def resume(self, record: SweepRecord) -> None:
        """Takes stock of what an earlier driver left, before a worker writes any of it again."""
        self._take_stock(*record.trials)
        self._remove_unwanted_checkpoints(*record.own_trials)
        self._remove_unwanted(record, *record.trials)

    def finish(self, record: SweepRecord) -> None:
        """Leaves exactly what is wanted, once nobody writes any more."""
        self.resume(record)
        for trial in record.own_trials:
            for folder in self._paths.written_for(trial.name):
                _remove_leftovers(folder)

    def _take_stock(self, *trials: str) -> None:
        for trial in trials:
            self._stored.setdefault(trial, set()).update(self._paths.stored_snapshots(trial))

    def _remove_unwanted(self, record: SweepRecord, *trials: str) -> None:
        """Removes what these trials, and those that just lost a point on the front, have in vain."""
        changed = self._wanted.update(record, *trials)
        for name in {*trials, *(trial for trial, _ in changed)}:
            self._remove_unwanted_snapshots(record, name)
            self._remove_unwanted_traces(record, name)

    def _remove_unwanted_snapshots(self, record: SweepRecord, name: str) -> None:
        stored = self._stored.get(name, set())
        unwanted = {
            key for key in stored if key not in self._wanted and not self._is_awaited(key, record)
        }
        for trial, epoch in unwanted:
            shutil.rmtree(self._paths.snapshot(trial, epoch), ignore_errors=True)
        stored -= unwanted

    def _is_awaited(self, key: Key, record: SweepRecord) -> bool:
        """Whether the report of a snapshot may still come from its trial's checkpoint."""
        trial, epoch = record.trial(key[0]), key[1]
        is_new = trial.is_unfinished and epoch > trial.last_epoch
        return is_new and self._paths.checkpoint(trial.name).exists()

    def _remove_unwanted_checkpoints(self, *trials: Trial) -> None:
        """Checkpoints stay with trials that a resume goes on with."""
        for trial in trials:
            if not trial.is_unfinished:
                shutil.rmtree(self._paths.checkpoints(trial.name), ignore_errors=True)

    def _remove_unwanted_traces(self, record: SweepRecord, name: str) -> None:
        """Traces stay with trials that have a snapshot; one that is over does not get one later."""
        if not record.trial(name).is_unfinished and not self._wanted.of(name):
            shutil.rmtree(self._paths.traces(name), ignore_errors=True)


def _remove_leftovers(folder: Path) -> None:
    """Removes what writers that were killed left half-written, and the folder where it is empty."""
    for partial in folder.glob(".*"):
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not there, or not empty
        folder.rmdir()
