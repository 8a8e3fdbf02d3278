"""The MLflow runs of one sweep: one parent, one nested child a trial. Each method is one thing that
MLflow is told, and may be repeated; `orchestrator.tracking` says which, and when.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.mlflow_tags import (
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_RUN_NOTE,
    MLFLOW_SOURCE_NAME,
    MLFLOW_SOURCE_TYPE,
)

from orchestrator.events import (
    Event,
    PointEvaluated,
    SearchEnded,
    SweepEnded,
    TrialEnded,
    TrialImported,
    TrialRetried,
    to_dict,
)
from orchestrator.experiment import open_experiment, store_lock
from orchestrator.mlflow_values import (
    CONFIRMS,
    DRIVERS,
    EVALUATION_FAILED,
    FAILURE,
    IMPORTED,
    NUM_RETRIES,
    RAN,
    RETRIES,
    SETTINGS,
    SOURCE,
    DriverTimes,
    Stretch,
    driver_times,
    environment_tags,
    evaluation_folder,
    write_times,
)
from orchestrator.settings import SweepSettings
from orchestrator.trial_settings import by_dotted_name, without_effect
from orchestrator.trials import Trial

_RUN_STATUS = {"completed": "FINISHED", "failed": "FAILED", "stopped": "KILLED", "interrupted": "KILLED"}
_PAGE_SIZE = 1000

Note = Callable[[str, str], None]
"""Told of each run that is opened: the trial's name, empty for the sweep's own; and the run's id."""


class MlflowRuns:
    """The runs of a sweep.

    Args:
        client: of the tracking store.
        settings: the sweep's.
        sweep: its name.
        sweep_id: what no other sweep has; its runs carry it as a tag and are found by it.
        environment: versions, commit and hardware, for tags.
        note: told of each run that is opened.

    Attributes:
        experiment_id: of the experiment that they are in.
        run_id: of the sweep's own run; empty until `open`.
        run_ids: trial to run.
        children: the trials' runs as `open` found them, of an earlier driver.
    """

    def __init__(
        self,
        client: MlflowClient,
        settings: SweepSettings,
        sweep: str,
        sweep_id: str,
        environment: Mapping[str, str],
        note: Note,
    ) -> None:
        self._settings = settings
        self._sweep = sweep
        self._sweep_id = sweep_id
        self._note = note
        self._client = client
        self._tags = environment_tags(environment)
        self._tried: set[str] = set()
        self._closed: set[str] = set()
        self._drivers: list[DriverTimes] = []
        self._ran: dict[str, list[Stretch]] = {}
        self._retries: dict[str, list[TrialRetried]] = {}
        self.experiment_id = ""
        self.run_id = ""
        self.run_ids: dict[str, str] = {}
        self.children: dict[str, Run] = {}

    def open(self, sweep_yaml: str, events: Sequence[Event] = ()) -> None:
        """Opens the experiment and the sweep's run, or takes up what an earlier driver opened.

        Args:
            sweep_yaml: the resolved settings.
            events: of the sweep up to now, the start of this driver among them.

        Raises:
            mlflow.exceptions.MlflowException: the store refuses it; no new run is left.
        """
        with store_lock(self._settings.tracking.uri):
            self.experiment_id = open_experiment(self._client, self._settings)
        self._drivers = driver_times(events)
        imported = [event for event in events if isinstance(event, TrialImported)]
        found = self._find_parent()
        if found:
            self.run_id = found.info.run_id
            self._client.update_run(self.run_id, status="RUNNING")
            self.tag_sweep({**self._tags, **self._driver_tags(), "status": "running", "reason": ""})
            self._describe(self.run_id, sweep_yaml, imported, with_params=not found.data.params)
            self.children = self._find_children()
            self.run_ids = {trial: run.info.run_id for trial, run in self.children.items()}
            self._closed = {t for t, run in self.children.items() if run.info.status != "RUNNING"}
            for trial, run_id in self.run_ids.items():  # a kill may have come before it was told
                self._note(trial, run_id)
        else:
            self.run_id = self._create_parent(sweep_yaml, imported)
        self._note("", self.run_id)

    def _find_parent(self) -> Run | None:
        """The sweep's run, where an earlier driver opened it: the first of all that bear its id."""
        mine, oldest = f"tags.sweep_id = '{self._sweep_id}'", ["attributes.start_time ASC"]
        runs = self._client.search_runs([self.experiment_id], mine, max_results=1, order_by=oldest)
        return next((run for run in runs if MLFLOW_PARENT_RUN_ID not in run.data.tags), None)

    def _driver_tags(self) -> dict[str, str]:
        return {DRIVERS: write_times(self._drivers)} if self._drivers else {}

    def _create_parent(self, sweep_yaml: str, imported: Sequence[TrialImported]) -> str:
        tags = {
            **self._tags,
            **self._driver_tags(),
            MLFLOW_SOURCE_NAME: SOURCE,
            MLFLOW_SOURCE_TYPE: "LOCAL",
            "sweep": self._sweep,
            "sweep_id": self._sweep_id,
            "status": "running",
            "objectives": ", ".join(f"{n} {d}" for n, d in self._settings.objectives.items()),
        }
        run = self._client.create_run(self.experiment_id, run_name=self._sweep, tags=tags)
        run_id = run.info.run_id
        try:
            self._describe(run_id, sweep_yaml, imported, with_params=True)
        except BaseException:
            self._client.delete_run(run_id)
            raise
        return run_id

    def _describe(
        self, run_id: str, sweep_yaml: str, imported: Sequence[TrialImported], with_params: bool
    ) -> None:
        """What the sweep is; params can be written once only, also where budgets have grown."""
        if with_params:
            search = self._settings.search.model_dump()
            params = [Param(f"search.{key}", str(value)) for key, value in search.items()]
            self._client.log_batch(run_id, params=params)
        if imported:
            lines = [json.dumps(to_dict(event), separators=(",", ":")) for event in imported]
            self._client.log_text(run_id, "\n".join([*lines, ""]), IMPORTED)
        self._client.log_text(run_id, sweep_yaml, SETTINGS)

    def _find_children(self) -> dict[str, Run]:
        """Trial to run, of all that MLflow has."""
        found: dict[str, Run] = {}
        mine, token = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{self.run_id}'", None
        while True:
            page = self._client.search_runs(
                [self.experiment_id], mine, max_results=_PAGE_SIZE, page_token=token
            )
            found |= {run.data.tags["trial"]: run for run in page}
            token = page.token
            if not token:
                return found

    def create_child(self, trial: Trial, at: float) -> None:
        tags = {
            **self._tags,
            MLFLOW_PARENT_RUN_ID: self.run_id,
            "sweep": self._sweep,
            "sweep_id": self._sweep_id,
            "trial": trial.name,
            "head.kind": trial.config["head"]["kind"],
            "status": "pending",
            "on_front": "false",
        }
        if trial.confirms:
            tags |= {CONFIRMS: trial.confirms, "seed": str(trial.config["seed"])}
        if trial.name not in self.run_ids:
            run = self._created_before(trial.name) or self._client.create_run(
                self.experiment_id, start_time=_ms(at), run_name=trial.name, tags=tags
            )
            self.run_ids[trial.name] = run.info.run_id
            self._note(trial.name, run.info.run_id)
        params = [Param(name, str(value)) for name, value in trial_params(trial).items()]
        self._client.log_batch(self.run_ids[trial.name], params=params)

    def _created_before(self, trial: str) -> Run | None:
        """The trial's run, where an earlier try made it and its answer was lost."""
        first_try = trial not in self._tried
        self._tried.add(trial)
        if first_try:
            return None
        mine = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{self.run_id}' and tags.trial = '{trial}'"
        return next(iter(self._client.search_runs([self.experiment_id], mine)), None)

    def start_child(self, trial: str, at: float) -> None:
        """Marks it as running from a time on, also where an earlier driver had ended it."""
        if trial in self._closed:
            self._client.update_run(self.run_ids[trial], status="RUNNING")
            self._closed.remove(trial)
        ran = self._ran.setdefault(trial, [])
        if Stretch(at) not in ran:
            ran.append(Stretch(at))
        self.tag(trial, {"status": "running", "reason": "", RAN: write_times(ran)})

    def log_report(self, trial: str, epochs: Mapping[int, Mapping[str, float]], at: float) -> None:
        """Metrics of a trial by epoch."""
        metrics = [
            Metric(name, value, _ms(at), epoch)
            for epoch, values in epochs.items()
            for name, value in values.items()
        ]
        self._client.log_batch(self.run_ids[trial], metrics=metrics)

    def retry_child(self, event: TrialRetried) -> None:
        """Notes an attempt that failed and is followed by another one."""
        retries = self._retries.setdefault(event.trial, [])
        if event not in retries:
            retries.append(event)
        lines = [json.dumps(to_dict(retry), separators=(",", ":")) for retry in retries]
        self._client.log_text(self.run_ids[event.trial], "\n".join([*lines, ""]), RETRIES)
        tags = {"status": "pending", "reason": event.reason, NUM_RETRIES: str(len(retries))}
        self.tag(event.trial, {**tags, **self._end_stretch(event.trial, event.time)})

    def _end_stretch(self, trial: str, at: float) -> dict[str, str]:
        """The tag with the times at which a trial was worked on, up to a time."""
        if (ran := self._ran.get(trial)) and ran[-1].end is None:
            ran[-1] = ran[-1]._replace(end=at)
        return {RAN: write_times(ran)} if ran else {}

    def end_child(self, event: TrialEnded) -> None:
        tags = {"status": event.status, "reason": event.reason}
        self.tag(event.trial, {**tags, **self._end_stretch(event.trial, event.time)})
        run_id = self.run_ids[event.trial]
        if event.details:
            self._client.log_text(run_id, event.details, FAILURE)
        self._client.set_terminated(run_id, _RUN_STATUS[event.status], end_time=_ms(event.time))

    def log_progress(self, values: Mapping[str, float], step: int, at: float) -> None:
        """Metrics of the sweep after so many ended trials."""
        metrics = [Metric(name, value, _ms(at), step) for name, value in values.items()]
        self._client.log_batch(self.run_id, metrics=metrics)

    def log_confirmation(self, trial: str, values: Mapping[str, float], epoch: int, at: float) -> None:
        """What further seeds say of a point; a deviation that is none, of one seed, is left out."""
        metrics = [
            Metric(f"confirmed_{name}", value, _ms(at), epoch)
            for name, value in values.items()
            if not math.isnan(value)
        ]
        self._client.log_batch(self.run_ids[trial], metrics=metrics)

    def log_failed_evaluation(self, event: PointEvaluated) -> None:
        run_id, place = self.run_ids[event.trial], evaluation_folder(event.epoch)
        self._client.log_text(run_id, f"{event.reason}\n\n{event.details}", f"{place}/{FAILURE}")
        failed = Metric(EVALUATION_FAILED, 1.0, _ms(event.time), event.epoch)
        self._client.log_batch(run_id, metrics=[failed])

    def log_evaluation(self, event: PointEvaluated, folder: Path) -> None:
        """Metrics and files of a final evaluation.

        Raises:
            FileNotFoundError: the folder is not there.
        """
        run_id, at = self.run_ids[event.trial], _ms(event.time)
        metrics = [Metric(name, value, at, event.epoch) for name, value in event.metrics.items()]
        self._client.log_batch(run_id, metrics=metrics)
        place = evaluation_folder(event.epoch)
        self.upload(event.trial, folder, place)
        failure = f"{place}/{FAILURE}"  # of an attempt before
        if failure in {file.path for file in self._client.list_artifacts(run_id, place)}:
            self.remove(event.trial, failure)

    def upload(self, trial: str, path: Path, place: str) -> None:
        """A file into, or a folder as, the artifacts at a place of the trial's run.

        Raises:
            FileNotFoundError: it is not there; MLflow itself would upload nothing, without a word.
        """
        if not path.exists():
            raise FileNotFoundError(path)
        log = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
        log(self.run_ids[trial], str(path), place)

    def remove(self, trial: str, place: str) -> None:
        """Removes artifacts of the trial's run."""
        artifact_uri = self._client.get_run(self.run_ids[trial]).info.artifact_uri
        assert artifact_uri is not None
        repository = get_artifact_repository(artifact_uri, tracking_uri=self._settings.tracking.uri)
        repository.delete_artifacts(place)

    def describe_sweep(self, text: str) -> None:
        """The description of the sweep's run, as Markdown."""
        self._client.set_tag(self.run_id, MLFLOW_RUN_NOTE, text)

    def write_point_page(self, trial: str, epoch: int, folder: Path) -> None:
        """The files of a folder beside the evaluation of a point."""
        self._client.log_artifacts(self.run_ids[trial], str(folder), evaluation_folder(epoch))

    @property
    def tracking_uri(self) -> str:
        return self._settings.tracking.uri

    def write_pages(self, folder: Path) -> None:
        """The files of a folder as artifacts of the sweep's run."""
        self._client.log_artifacts(self.run_id, str(folder))

    def tag(self, trial: str, tags: Mapping[str, str]) -> None:
        run_tags = [RunTag(key, value) for key, value in tags.items()]
        self._client.log_batch(self.run_ids[trial], tags=run_tags)

    def tag_sweep(self, tags: Mapping[str, str]) -> None:
        """Tags of the sweep's own run."""
        self._client.log_batch(self.run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def end_search(self, event: SearchEnded) -> None:
        if self._drivers:
            self._drivers[-1] = self._drivers[-1]._replace(search_ended=event.time)
            self.tag_sweep(self._driver_tags())

    def close(self, event: SweepEnded, num_failed_evaluations: int) -> None:
        """Ends the sweep's run."""
        if self._drivers:
            self._drivers[-1] = self._drivers[-1]._replace(ended=event.time)
        tags = {
            **self._driver_tags(),
            "failed_evaluations": str(num_failed_evaluations),
            "status": event.status,
            "reason": event.reason,
        }
        self.tag_sweep(tags)
        self._client.set_terminated(self.run_id, _RUN_STATUS[event.status], end_time=_ms(event.time))


def trial_params(trial: Trial) -> dict[str, Any]:
    """Every setting of the trial by dotted name, without those that have no effect in it."""
    params = by_dotted_name(trial.config)
    return {n: v for n, v in params.items() if n not in without_effect(params["head.kind"])}


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
