"""Events to MLflow: one parent run a sweep, one nested child run a trial.

Only the driver talks to MLflow, from one thread with a queue: a slow or dead server delays what is
seen, never the sweep. What the server refuses for good is logged and left out.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_STATE
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.mlflow_tags import (
    MLFLOW_GIT_COMMIT,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_SOURCE_NAME,
    MLFLOW_SOURCE_TYPE,
)

from orchestrator.events import (
    Event,
    PointEvaluated,
    SweepEnded,
    TrialEnded,
    TrialProposed,
    TrialReported,
    TrialStarted,
)
from orchestrator.experiment import open_experiment, store_lock
from orchestrator.front_table import FrontTable, front_table
from orchestrator.operation_queue import OperationQueue
from orchestrator.paths import SweepPaths
from orchestrator.record import SweepRecord, Trial
from orchestrator.retention import Key, RetentionRule, wanted_snapshots
from orchestrator.settings import SweepSettings
from trainables.reports import EpochReport

logger = logging.getLogger(__name__)

Render = Callable[[FrontTable], Mapping[str, bytes]]
"""Draws a table's pages: file name to content."""

FRONT_PAGE = "pareto_front.html"
_TRACES = "traces"
_RUN_STATUS = {"completed": "FINISHED", "failed": "FAILED", "stopped": "KILLED", "interrupted": "KILLED"}
_REFRESH_SECONDS = 10.0


class Tracker:
    """The listener that writes a sweep to MLflow.

    Raises:
        mlflow.exceptions.MlflowException: from the constructor only, which makes the parent run.
    """

    def __init__(
        self,
        settings: SweepSettings,
        sweep: str,
        paths: SweepPaths,
        environment: Mapping[str, str],
        render: Render,
    ) -> None:
        self._settings = settings
        self._sweep = sweep
        self._paths = paths
        self._render = render
        self._rule = RetentionRule(settings.tracking.embeddings, settings.evaluation.points)
        self._client = MlflowClient(tracking_uri=settings.tracking.uri)
        self._tags = _environment_tags(environment)
        with store_lock(settings.tracking.uri):
            self.experiment_id = open_experiment(self._client, settings)
        self.run_id = self._open_parent()
        self._run_ids: dict[str, str] = {}
        self._tried: set[str] = set()
        self._latest: FrontTable | None = None
        self._latest_lock = threading.Lock()
        self._published: set[Key] = set()
        self._traced: set[str] = set()
        self._marks: dict[str, str] = {}
        self._refreshed = 0.0
        self._operations = OperationQueue()

    def __call__(self, event: Event, record: SweepRecord) -> None:
        match event:
            case TrialProposed():
                self._operations.put(lambda: self._create_child(record.trials[event.trial], event.time))
            case TrialStarted():
                self._operations.put(lambda: self._tag(event.trial, {"status": "running"}))
            case TrialReported():
                report = EpochReport.from_dict(event.report)
                self._operations.put(lambda: self._log_report(event.trial, report, event.time))
                self._publish_snapshots(record)
                self._refresh_if_due(record)
            case TrialEnded():
                self._on_trial_ended(event, record)
                self._refresh_if_due(record)
            case PointEvaluated():
                self._operations.put(lambda: self._log_evaluation(event))
            case SweepEnded():
                self._refresh(record)
                num_failed = str(record.num_failed_evaluations)
                self._operations.put(lambda: self._close_parent(event, num_failed))
            case _:
                pass

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

    def url(self, host: str) -> str:
        """The front's page on an MLflow server at `host`, in MLflow's model-training mode."""
        run = f"{host.rstrip('/')}/#/experiments/{self.experiment_id}/runs/{self.run_id}"
        return f"{run}/artifacts/{FRONT_PAGE}?workflowType=machine_learning"

    def _open_parent(self) -> str:
        tags = {
            **self._tags,
            MLFLOW_SOURCE_NAME: "orchestrator.sweep",
            MLFLOW_SOURCE_TYPE: "LOCAL",
            "sweep": self._sweep,
            "status": "running",
            "objectives": ", ".join(f"{n} {d}" for n, d in self._settings.objectives.items()),
        }
        run = self._client.create_run(self.experiment_id, run_name=self._sweep, tags=tags)
        run_id = run.info.run_id
        try:
            self._describe_parent(run_id)
        except BaseException:
            self._client.delete_run(run_id)
            raise
        return run_id

    def _describe_parent(self, run_id: str) -> None:
        search = self._settings.search.model_dump()
        params = [Param(f"search.{key}", str(value)) for key, value in search.items()]
        self._client.log_batch(run_id, params=params)
        self._client.log_text(run_id, self._paths.settings.read_text(), "sweep.yaml")

    def _close_parent(self, event: SweepEnded, num_failed_evaluations: str) -> None:
        self._client.set_tag(self.run_id, "failed_evaluations", num_failed_evaluations)
        self._client.set_tag(self.run_id, "status", event.status)
        self._client.set_tag(self.run_id, "reason", event.reason)
        self._client.set_terminated(self.run_id, _RUN_STATUS[event.status], end_time=_ms(event.time))

    def _create_child(self, trial: Trial, at: float) -> None:
        tags = {
            **self._tags,
            MLFLOW_PARENT_RUN_ID: self.run_id,
            "sweep": self._sweep,
            "trial": trial.name,
            "head.kind": trial.config["head"]["kind"],
            "status": "pending",
            "on_front": "false",
        }
        if trial.name not in self._run_ids:
            run = self._created_before(trial.name) or self._client.create_run(
                self.experiment_id, start_time=_ms(at), run_name=trial.name, tags=tags
            )
            self._run_ids[trial.name] = run.info.run_id
        params = [Param(name, str(value)) for name, value in trial_params(trial).items()]
        self._client.log_batch(self._run_ids[trial.name], params=params)

    def _created_before(self, trial: str) -> Run | None:
        """The trial's run, where an earlier try made it and its answer was lost."""
        first_try = trial not in self._tried
        self._tried.add(trial)
        if first_try:
            return None
        mine = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{self.run_id}' and tags.trial = '{trial}'"
        return next(iter(self._client.search_runs([self.experiment_id], mine)), None)

    def _log_report(self, trial: str, report: EpochReport, at: float) -> None:
        metrics = [
            Metric(name, value, _ms(at), epoch)
            for epoch, values in {**report.training, report.epoch: report.metrics}.items()
            for name, value in values.items()
        ]
        self._client.log_batch(self._run_ids[trial], metrics=metrics)

    def _on_trial_ended(self, event: TrialEnded, record: SweepRecord) -> None:
        trial = record.trials[event.trial]
        self._operations.put(lambda: self._end_child(event))
        num_ended = sum(t.is_ended for t in record.trials.values())
        values = {
            "hypervolume": record.hypervolume(),
            "front_size": float(len(record.front)),
            "failed_trials": float(record.count("failed")),
        }
        metrics = [Metric(name, value, _ms(event.time), num_ended) for name, value in values.items()]
        self._operations.put(lambda: self._client.log_batch(self.run_id, metrics=metrics))
        self._publish_snapshots(record)
        logger.info("%s %s %s", trial.name, event.status, event.reason)

    def _end_child(self, event: TrialEnded) -> None:
        self._tag(event.trial, {"status": event.status, "reason": event.reason})
        run_id = self._run_ids[event.trial]
        if event.details:
            self._client.log_text(run_id, event.details, "failure.txt")
        self._client.set_terminated(run_id, _RUN_STATUS[event.status], end_time=_ms(event.time))

    def _log_evaluation(self, event: PointEvaluated) -> None:
        run_id, place = self._run_ids[event.trial], f"evaluations/epoch-{event.epoch:04d}"
        if event.reason:
            text = f"{event.reason}\n\n{event.details}"
            self._client.log_text(run_id, text, f"{place}/failure.txt")
            return
        at = _ms(event.time)
        metrics = [Metric(name, value, at, event.epoch) for name, value in event.metrics.items()]
        self._client.log_batch(run_id, metrics=metrics)
        self._client.log_artifacts(run_id, str(self._paths.evaluation(event.trial, event.epoch)), place)

    def _publish_snapshots(self, record: SweepRecord) -> None:
        """Uploads what ended trials have on the front, removes what has left it."""
        wanted = {
            (trial, epoch)
            for trial, epoch in wanted_snapshots(record, self._rule)
            if record.trials[trial].is_ended
        }
        for key in sorted(wanted - self._published):
            self._operations.put(lambda key=key: self._upload_snapshot(*key))
        for key in sorted(self._published - wanted):
            place = _snapshot_artifact(key[1])
            self._operations.put(lambda key=key, at=place: self._remove_artifacts(key[0], at))
        self._published = wanted
        traced = {trial for trial, _ in wanted}
        for trial in sorted(traced - self._traced):
            self._operations.put(lambda trial=trial: self._upload_traces(trial))
        for trial in sorted(self._traced - traced):
            self._operations.put(lambda trial=trial: self._remove_artifacts(trial, _TRACES))
        self._traced = traced

    def _upload_traces(self, trial: str) -> None:
        for path in self._paths.stored_traces(trial):
            # Where it is gone, its trial left the front; what was uploaded is removed after this.
            with contextlib.suppress(FileNotFoundError):
                self._client.log_artifact(self._run_ids[trial], str(path), _TRACES)

    def _upload_snapshot(self, trial: str, epoch: int) -> None:
        folder = self._paths.snapshot(trial, epoch)
        try:
            if not folder.exists():  # MLflow would upload nothing, without a word
                raise FileNotFoundError(folder)
            self._client.log_artifacts(self._run_ids[trial], str(folder), _snapshot_artifact(epoch))
        except (OSError, MlflowException):
            if folder.exists():
                raise
            if (trial, epoch) in self._published:
                message = f"the snapshot {folder} is on the front and no longer on disk"
                raise MlflowException(message, INVALID_STATE) from None
            # It left the front while it waited here; its removal is queued behind this.
            logger.info("snapshot of %s epoch %d left the front before its upload", trial, epoch)

    def _remove_artifacts(self, trial: str, place: str) -> None:
        artifact_uri = self._client.get_run(self._run_ids[trial]).info.artifact_uri
        assert artifact_uri is not None
        repository = get_artifact_repository(artifact_uri, tracking_uri=self._settings.tracking.uri)
        repository.delete_artifacts(place)

    def _refresh_if_due(self, record: SweepRecord) -> None:
        if time.monotonic() - self._refreshed >= _REFRESH_SECONDS:
            self._refresh(record)

    def _refresh(self, record: SweepRecord) -> None:
        """Draws the pages anew and marks the runs of the front's trials."""
        table = front_table(self._sweep, record)
        with self._latest_lock:
            self._latest = table
        marks = _front_marks(record)
        left = self._marks.keys() - marks.keys()
        changed = {trial: epochs for trial, epochs in marks.items() if self._marks.get(trial) != epochs}
        self._marks = marks

        def operation() -> None:
            for trial in left:
                self._tag(trial, {"on_front": "false", "front_epochs": ""})
            for trial, epochs in changed.items():
                self._tag(trial, {"on_front": "true", "front_epochs": epochs})
            self._write_latest_pages()

        self._operations.put(operation)
        self._refreshed = time.monotonic()

    def _write_latest_pages(self) -> None:
        """Writes the newest table, once: what a dead server missed is not drawn again and again."""
        with self._latest_lock:
            table = self._latest
        if table is None:
            return
        files = self._render(table.with_run_ids(self._run_ids))
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                (Path(folder) / name).write_bytes(content)
            self._client.log_artifacts(self.run_id, folder)
        with self._latest_lock:
            if self._latest is table:
                self._latest = None

    def _tag(self, trial: str, tags: Mapping[str, str]) -> None:
        run_tags = [RunTag(key, value) for key, value in tags.items()]
        self._client.log_batch(self._run_ids[trial], tags=run_tags)


def _front_marks(record: SweepRecord) -> dict[str, str]:
    """Each trial on the front with its epochs there, such as "10, 25"."""
    epochs: dict[str, list[int]] = {}
    for point in record.front:
        epochs.setdefault(point.trial, []).append(point.epoch)
    return {trial: ", ".join(map(str, sorted(values))) for trial, values in epochs.items()}


def trial_params(trial: Trial) -> dict[str, Any]:
    """Every setting of the trial by dotted name, without those that have no effect in it."""
    params = dict(_flatten(trial.config))
    if trial.config["head"]["kind"] == "none":
        params = {n: v for n, v in params.items() if n not in ("head.depth", "head.width_ratio")}
    return params


def _flatten(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    items: list[tuple[str, Any]] = []
    for name, value in config.items():
        if isinstance(value, Mapping):
            items += _flatten(value, f"{prefix}{name}.")
        else:
            items.append((prefix + name, value))
    return items


def _environment_tags(environment: Mapping[str, str]) -> dict[str, str]:
    facts = dict(environment)
    tags = {MLFLOW_GIT_COMMIT: facts.pop("git_commit")} if "git_commit" in facts else {}
    tags |= {name: facts.pop(name) for name in ("data", "data_order") if name in facts}
    return {**tags, **{f"version.{name}": value for name, value in facts.items()}}


def _snapshot_artifact(epoch: int) -> str:
    return f"snapshots/epoch-{epoch:04d}"


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
