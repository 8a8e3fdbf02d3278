"""Events to MLflow: what of a sweep is written there, and when.

Only the driver talks to MLflow, from one thread with a queue and a client in a process of its own: a
slow or dead server delays what is seen, never the sweep. What the server refuses for good is logged and
left out.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_STATE

from orchestrator.compact import CompactMetrics
from orchestrator.confirmation import confirmations
from orchestrator.events import (
    Event,
    PointEvaluated,
    SearchEnded,
    SweepEnded,
    TrialEnded,
    TrialProposed,
    TrialReported,
    TrialRetried,
    TrialStarted,
    TrialWarned,
)
from orchestrator.front_table import confirmed_values
from orchestrator.mlflow_runs import MlflowRuns
from orchestrator.operation_queue import Operation, OperationQueue
from orchestrator.page_uploads import PageUploads
from orchestrator.pages import SWEEP_PAGE, Pages, run_address
from orchestrator.paths import SweepPaths
from orchestrator.record import SweepRecord
from orchestrator.retention import RetentionRule
from orchestrator.snapshot_uploads import SnapshotUploads, write_epochs
from orchestrator.trials import Point
from trainables.places import local_copy
from trainables.reports import EpochReport

logger = logging.getLogger(__name__)

_REFRESH_SECONDS = 10.0


class Tracker:
    """The listener that writes a sweep to MLflow.

    Args:
        runs: the sweep's runs, opened.
        paths: its folder.
        rule: which snapshots are kept.
        pages: draws the pages.
        held_back: makes of each operation one that waits for what must come before it.
    """

    def __init__(
        self,
        runs: MlflowRuns,
        paths: SweepPaths,
        rule: RetentionRule,
        pages: Pages,
        held_back: Callable[[Operation], Operation] = lambda operation: operation,
    ) -> None:
        self.runs = runs
        self._paths = paths
        self._page_uploads = PageUploads(runs, pages)
        self._marks: dict[str, str] = {}
        self._choices: dict[str, str] = {}
        self._refreshed = 0.0
        self._is_replaying = False
        self._operations = OperationQueue(held_back=held_back)
        self._snapshots = SnapshotUploads(runs, paths, rule, self._operations.put)

    def __call__(self, event: Event, record: SweepRecord) -> None:
        match event:
            case TrialProposed():
                trial = record.trial(event.trial)
                self._operations.put(lambda: self.runs.create_child(trial, event.time))
            case TrialStarted():
                self._operations.put(lambda: self.runs.start_child(event.trial, event.time))
            case TrialReported():
                self._log_report(event)
            case TrialWarned() | TrialRetried():
                self._log_mishap(event)
            case TrialEnded():
                self._operations.put(lambda: self.runs.end_child(event))
                if event.trial in record.trials:
                    self._log_progress(event, record)
            case PointEvaluated():
                self._operations.put(lambda: self._log_evaluation(event))
                if event.reason and not self._is_replaying:
                    text = "%s, epoch %d: the final evaluation failed: %s"
                    logger.warning(text, event.trial, event.epoch, event.reason)
            case SearchEnded() if not self._is_replaying:  # those of earlier drivers the runs know
                self._operations.put(lambda: self.runs.end_search(event))
            case SweepEnded() if not self._is_replaying:
                self._refresh(record)
                self._draw_points(record)
                self._log_confirmations(record, event.time)
                num_failed = record.num_failed_evaluations
                self._operations.put(lambda: self.runs.close(event, num_failed))
            case _:
                pass
        if isinstance(event, (TrialReported, TrialEnded)) and not self._is_replaying:
            self._snapshots.update(record, event.trial)
            self._refresh_if_due(record)

    def resume(self, history: Sequence[Event], replayed: SweepRecord, record: SweepRecord) -> None:
        """Brings the runs to where the ledger is: what an earlier driver wrote there stays, what it did
        not live to write is written. Everything may be written twice, since the values and the times are
        the ledger's.

        Args:
            history: the ledger's events.
            replayed: an empty record, which is led through the history.
            record: the sweep as it is now.
        """
        children = self.runs.children
        written = {
            trial.name
            for trial in record.own_trials
            if trial.is_ended
            and trial.name in children
            and children[trial.name].info.status != "RUNNING"
            and children[trial.name].data.tags["status"] == trial.status
        }
        self._is_replaying = True
        for event in history:
            replayed.apply(event)
            if getattr(event, "trial", None) not in written or isinstance(event, PointEvaluated):
                self(event, replayed)
            elif isinstance(event, TrialEnded) and event.trial in replayed.trials:
                self._log_progress(event, replayed)
        self._is_replaying = False
        for trial, run in children.items():
            if marks := run.data.tags.get("front_epochs", ""):
                self._marks[trial] = marks
        self._snapshots.resume(record, children)
        self._refresh(record)

    def close(self, patience_s: float) -> int:
        """Waits until everything is written, giving up after `patience_s` without progress.

        Returns:
            The number of operations that were not written.
        """
        return self._operations.close(patience_s)

    @property
    def num_waiting(self) -> int:
        """Operations that are not written yet."""
        return self._operations.num_waiting

    @property
    def num_refused(self) -> int:
        """Operations that the server refused for good; the log has each."""
        return self._operations.num_refused

    @property
    def num_undrawn(self) -> int:
        """Pages that could not be drawn when it was tried last; the log has each."""
        return len(self._page_uploads.failed)

    def url(self, host: str) -> str:
        """The front's page on an MLflow server at `host`, in MLflow's model-training mode."""
        return run_address(host, self.runs.experiment_id, self.runs.run_id, f"/artifacts/{SWEEP_PAGE}")

    def _log_report(self, event: TrialReported) -> None:
        """Queues the values alone, as small as they go: a slow server leaves many waiting."""
        report = EpochReport.from_dict(event.report)
        epochs = {**report.training, report.epoch: report.metrics}
        values = {epoch: CompactMetrics(metrics) for epoch, metrics in epochs.items()}
        trial, at = event.trial, event.time
        self._operations.put(lambda: self.runs.log_report(trial, values, at))

    def _log_mishap(self, event: TrialWarned | TrialRetried) -> None:
        if isinstance(event, TrialRetried):
            self._operations.put(lambda: self.runs.retry_child(event))
            text = f"is tried again: {event.reason}"
        else:
            self._operations.put(lambda: self.runs.tag(event.trial, {"warning": event.warning}))
            text = event.warning
        if not self._is_replaying:
            logger.warning("%s: %s", event.trial, text)

    def _log_evaluation(self, event: PointEvaluated) -> None:
        if event.reason:
            self.runs.log_failed_evaluation(event)
            return
        place = self._paths.evaluation(event.trial, event.epoch)
        try:
            with local_copy(place, must_be_whole=True) as folder:
                self.runs.log_evaluation(event, folder)
        except FileNotFoundError:
            if self._paths.is_away:
                raise
            raise MlflowException(f"{place} is no longer there", INVALID_STATE) from None

    def _log_progress(self, event: TrialEnded, record: SweepRecord) -> None:
        values = {
            "front_size": float(len(record.front)),
            "failed_trials": float(record.count("failed")),
        }
        if record.front.has_hypervolume:
            values["hypervolume"] = record.front.hypervolume()
        num_ended = record.num_ended
        self._operations.put(lambda: self.runs.log_progress(values, num_ended, event.time))
        if not self._is_replaying:
            logger.info("%s %s %s", event.trial, event.status, event.reason)

    def _log_confirmations(self, record: SweepRecord, at: float) -> None:
        """Once nothing more is confirmed, since each further seed changes all of them."""
        for (trial, epoch), confirmation in confirmations(record).items():
            values = confirmed_values(confirmation)
            self._operations.put(
                lambda trial=trial, epoch=epoch, values=values: self.runs.log_confirmation(
                    trial, values, epoch, at
                )
            )

    def _refresh_if_due(self, record: SweepRecord) -> None:
        """Large pages take long to draw: they take a tenth of the time, and no more."""
        every_s = max(_REFRESH_SECONDS, 10 * self._page_uploads.drawing_s)
        if time.monotonic() - self._refreshed >= every_s:
            self._refresh(record)

    def _refresh(self, record: SweepRecord) -> None:
        """Draws the pages anew and marks the runs of the front's trials."""
        self._page_uploads.set_stale()
        marks = _front_marks(record)
        left = self._marks.keys() - marks.keys()
        changed = {trial: epochs for trial, epochs in marks.items() if self._marks.get(trial) != epochs}
        self._marks = marks
        choices = _choices(record)
        changed_choices = {n: text for n, text in choices.items() if self._choices.get(n) != text}
        self._choices = choices

        def operation() -> None:
            if changed_choices:
                self.runs.tag_sweep(changed_choices)
            for trial in left:
                self.runs.tag(trial, {"on_front": "false", "front_epochs": ""})
            for trial, epochs in changed.items():
                self.runs.tag(trial, {"on_front": "true", "front_epochs": epochs})
            self._page_uploads.write_sweep()

        self._operations.put(operation)
        self._refreshed = time.monotonic()

    def _draw_points(self, record: SweepRecord) -> None:
        """The pages of evaluated points, at the end: they show the baseline's curve beside theirs."""
        for (trial, epoch), metrics in sorted(record.evaluations.items()):
            if metrics:
                self._operations.put(lambda key=(trial, epoch): self._page_uploads.write_point(*key))


def _front_marks(record: SweepRecord) -> dict[str, str]:
    """Each trial on the front with its epochs there, such as "10, 25"."""
    epochs: dict[str, list[int]] = {}
    for point in record.own_front():
        epochs.setdefault(point.trial, []).append(point.epoch)
    return {trial: write_epochs(values) for trial, values in epochs.items()}


def _choices(record: SweepRecord) -> dict[str, str]:
    """What the sweep's run says of its baseline, its reference point and the picked point, as tags."""
    reference = record.front.reference or {}
    choices = {
        "constraints": "; ".join(record.front.constraints.texts()),
        "reference_point": ", ".join(f"{name} {value:.6g}" for name, value in reference.items()),
        "baseline": _name(record.front.baseline, record),
        "pick": record.front.pick,
        "picked": _name(record.front.picked, record),
    }
    return {name: text for name, text in choices.items() if text or name == "picked"}


def _name(point: Point | None, record: SweepRecord) -> str:
    if point is None:
        return ""
    return f"{record.trial(point.trial).source or point.trial}, epoch {point.epoch}"
