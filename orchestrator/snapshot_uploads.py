"""The snapshots and traces that a sweep's MLflow runs hold: those of ended trials that are wanted."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping

from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_STATE

from orchestrator.mlflow_runs import MlflowRuns
from orchestrator.mlflow_values import TRACES
from orchestrator.paths import SweepPaths
from orchestrator.record import SweepRecord
from orchestrator.retention import Key, RetentionRule, WantedSnapshots
from trainables.places import local_copy

logger = logging.getLogger(__name__)

_TAG = "snapshots"
"""Names the epochs whose snapshots a trial's run may hold; set before the first byte is uploaded."""


class SnapshotUploads:
    """Uploads what ended trials have on the front, removes what has left it.

    Args:
        runs: the sweep's runs, opened.
        paths: its folder.
        rule: which snapshots are kept.
        put: has an operation on the runs done once those before it are.
    """

    def __init__(
        self,
        runs: MlflowRuns,
        paths: SweepPaths,
        rule: RetentionRule,
        put: Callable[[Callable[[], object]], None],
    ) -> None:
        self._runs = runs
        self._paths = paths
        self._wanted = WantedSnapshots(rule)
        self._put = put
        self._published: dict[str, set[int]] = {}

    def update(self, record: SweepRecord, *trials: str) -> None:
        """Brings the runs to a record.

        Args:
            record: after the events of these trials.
            trials: whose events came since the last time.
        """
        changed = self._wanted.update(record, *trials)
        over = [trial for trial in trials if record.trial(trial).is_ended]
        changed |= {key for trial in over for key in self._wanted.of(trial)}
        new, gone = set[Key](), set[Key]()
        for trial, epoch in changed:
            is_wanted = (trial, epoch) in self._wanted and record.trials[trial].is_ended
            if is_wanted != self._is_published(trial, epoch):
                (new if is_wanted else gone).add((trial, epoch))
        traced = self._published.keys() & {trial for trial, _ in gone}
        newly_traced = {trial for trial, _ in new} - self._published.keys()
        for trial, epoch in new:
            self._published.setdefault(trial, set()).add(epoch)
        for trial in sorted({trial for trial, _ in new}):
            self._tag(trial)
        for key in sorted(new):
            self._put(lambda key=key: self._upload(*key))
        for trial in sorted(newly_traced):
            self._put(lambda trial=trial: self._upload_traces(trial))
        for trial, epoch in gone:
            self._published[trial].remove(epoch)
            if not self._published[trial]:
                del self._published[trial]
        self._remove(gone, traced - self._published.keys())

    def resume(self, record: SweepRecord, children: Mapping[str, Run]) -> None:
        """Brings the runs that an earlier driver left to a record.

        Everything wanted is uploaded, since a killed driver may have left any of it half-done.
        """
        leftover: set[Key] = set()
        for trial, run in children.items():
            leftover |= {(trial, int(e)) for e in run.data.tags.get(_TAG, "").split(", ") if e}
        self.update(record, *record.trials)
        gone = {key for key in leftover if not self._is_published(*key)}
        self._remove(gone, {trial for trial, _ in leftover} - self._published.keys())

    def _is_published(self, trial: str, epoch: int) -> bool:
        return epoch in self._published.get(trial, ())

    def _remove(self, snapshots: set[Key], traces: set[str]) -> None:
        """Removes from MLflow what is no longer wanted."""
        for trial, epoch in sorted(snapshots):
            place = _artifact(epoch)
            self._put(lambda trial=trial, at=place: self._runs.remove(trial, at))
        for trial in sorted(traces):
            self._put(lambda trial=trial: self._runs.remove(trial, TRACES))
        for trial in sorted({trial for trial, _ in snapshots}):
            self._tag(trial)

    def _tag(self, trial: str) -> None:
        epochs = write_epochs(self._published.get(trial, ()))
        self._put(lambda: self._runs.tag(trial, {_TAG: epochs}))

    def _upload_traces(self, trial: str) -> None:
        if self._paths.is_away:
            raise FileNotFoundError(f"{self._paths.root} is away")  # or nothing would be taken for all
        for place in self._paths.stored_traces(trial):
            # Where it is gone, its trial left the front; what was uploaded is removed after this.
            with contextlib.suppress(FileNotFoundError), local_copy(place) as path:
                self._runs.upload(trial, path, TRACES)

    def _upload(self, trial: str, epoch: int) -> None:
        place = self._paths.snapshot(trial, epoch)
        try:
            with local_copy(place, must_be_whole=True) as folder:
                self._runs.upload(trial, folder, _artifact(epoch))
        except (OSError, MlflowException):
            if self._paths.is_away or (trial, epoch) in self._paths.stored_snapshots(trial):
                raise
            if self._is_published(trial, epoch):
                message = f"the snapshot {place} is on the front and no longer there"
                raise MlflowException(message, INVALID_STATE) from None
            # It left the front while it waited here; its removal is queued behind this.
            logger.info("snapshot of %s epoch %d left the front before its upload", trial, epoch)


def write_epochs(epochs: Iterable[int]) -> str:
    """Such as "10, 25"."""
    return ", ".join(map(str, sorted(epochs)))


def _artifact(epoch: int) -> str:
    return f"snapshots/epoch-{epoch:04d}"
