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
from pathlib import Path

from orchestrator.constraints import Constraints
from orchestrator.events import Event, TrialEnded, TrialReported
from orchestrator.pareto import minimised
from orchestrator.paths import SweepPaths
from orchestrator.record import Point, SweepRecord, Trial, with_point
from orchestrator.settings import EmbeddingsOf, EvaluatedPoints
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
    points = (record.front, record.unconstrained_front, record.candidates)
    kept = [point for front in points for point in front if point.trial in record.trials]
    wanted = {(point.trial, point.epoch) for point in kept}
    wanted |= evaluated_points(record, rule.evaluated)
    if rule.embeddings == "all":
        fronts = (trial.front for trial in record.trials.values())
        wanted |= {(point.trial, point.epoch) for front in fronts for point in front}
    return wanted


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
        self._rule = rule
        self._stored: set[Key] = set()

    def __call__(self, event: Event, record: SweepRecord) -> None:
        match event:
            case TrialReported():
                self._stored.add((event.trial, int(event.report["epoch"])))
            case TrialEnded():
                self._stored.update(self._paths.stored_snapshots(event.trial))
                self._remove_unwanted_traces(record)
                self._remove_unwanted_checkpoints(record.trial(event.trial))
            case _:
                return
        self._remove_unwanted_snapshots(record)

    def resume(self, record: SweepRecord) -> None:
        """Takes stock of what an earlier driver left, before a worker writes any of it again."""
        for trial in record.trials:
            self._stored.update(self._paths.stored_snapshots(trial))
        self._remove_unwanted_checkpoints(*record.own_trials)
        self._remove_unwanted_snapshots(record)

    def finish(self, record: SweepRecord) -> None:
        """Leaves exactly what is wanted, once nobody writes any more."""
        self._remove_unwanted_traces(record)
        self._remove_unwanted_checkpoints(*record.own_trials)
        for trial in record.trials:
            self._stored.update(self._paths.stored_snapshots(trial))
        self._remove_unwanted_snapshots(record)
        for trial in record.own_trials:
            for folder in self._paths.written_for(trial.name):
                _remove_leftovers(folder)

    def _remove_unwanted_snapshots(self, record: SweepRecord) -> None:
        unwanted = self._stored - wanted_snapshots(record, self._rule)
        unwanted = {key for key in unwanted if not self._is_awaited(key, record)}
        for trial, epoch in unwanted:
            shutil.rmtree(self._paths.snapshot(trial, epoch), ignore_errors=True)
        self._stored -= unwanted

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

    def _remove_unwanted_traces(self, record: SweepRecord) -> None:
        """Traces stay with trials that have a snapshot; one that is over does not get one later."""
        wanted = {trial for trial, _ in wanted_snapshots(record, self._rule)}
        for trial in record.trials.values():
            if not trial.is_unfinished and trial.name not in wanted:
                shutil.rmtree(self._paths.traces(trial.name), ignore_errors=True)


def _remove_leftovers(folder: Path) -> None:
    """Removes what writers that were killed left half-written, and the folder where it is empty."""
    for partial in folder.glob(".*"):
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not there, or not empty
        folder.rmdir()
