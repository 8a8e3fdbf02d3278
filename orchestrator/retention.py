"""Keeps on disk exactly the snapshots whose points are worth keeping.

Workers write a snapshot when its point is on the front of its own trial (`OwnFront`); the driver
removes it when the point is not, or no longer, on the sweep's front.
"""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Callable, Mapping
from typing import Literal

from orchestrator.events import Event, TrialEnded, TrialReported
from orchestrator.pareto import minimised
from orchestrator.paths import SweepPaths
from orchestrator.record import Point, SweepRecord, with_point
from trainables.reports import Direction, EpochReport

EmbeddingsOf = Literal["front", "all", "none"]
Key = tuple[str, int]


def wanted_snapshots(record: SweepRecord, embeddings: EmbeddingsOf) -> set[Key]:
    """The (trial, epoch) of each snapshot to keep: the front's; with "all" each trial's own front's."""
    points = list(record.front)
    if embeddings == "all":
        for trial in record.trials.values():
            points += trial.front
    return {(point.trial, point.epoch) for point in points}


class OwnFront:
    """Makes, for each trial, the test whether an epoch is on the trial's own front so far."""

    def __init__(self, objectives: Mapping[str, Direction]) -> None:
        self._objectives = dict(objectives)

    def __call__(self) -> Callable[[EpochReport], bool]:
        front: list[Point] = []

        def is_wanted(report: EpochReport) -> bool:
            nonlocal front
            values = minimised(report.metrics, self._objectives)
            if not all(math.isfinite(value) for value in values):
                return False
            point = Point("", report.epoch, report.metrics, values)
            front = with_point(front, point)
            return point in front

        return is_wanted


class Retention:
    """The listener that removes snapshots that are not, or no longer, wanted.

    A report tells of one snapshot; at a trial's end its folder is looked through for what a worker
    wrote and did not live to report.
    """

    def __init__(self, paths: SweepPaths, embeddings: EmbeddingsOf) -> None:
        self._paths = paths
        self._embeddings: EmbeddingsOf = embeddings
        self._stored: set[Key] = set()

    def __call__(self, event: Event, record: SweepRecord) -> None:
        match event:
            case TrialReported():
                self._stored.add((event.trial, int(event.report["epoch"])))
            case TrialEnded():
                self._stored.update(self._paths.stored_snapshots(event.trial))
            case _:
                return
        unwanted = self._stored - wanted_snapshots(record, self._embeddings)
        for trial, epoch in unwanted:
            shutil.rmtree(self._paths.snapshot(trial, epoch), ignore_errors=True)
        self._stored -= unwanted

    def finish(self, record: SweepRecord) -> None:
        """Leaves exactly the wanted snapshots, once nobody writes any more."""
        wanted = wanted_snapshots(record, self._embeddings)
        for trial in record.trials:
            for key in self._paths.stored_snapshots(trial) - wanted:
                shutil.rmtree(self._paths.snapshot(*key), ignore_errors=True)
            folder = self._paths.snapshots(trial)
            for partial in folder.glob(".*"):
                shutil.rmtree(partial, ignore_errors=True)
            with contextlib.suppress(OSError):  # not there, or not empty
                folder.rmdir()
