"""The MLflow runs of one sweep: one parent, one nested child a trial. Each method is one thing that
MLflow is told, and may be repeated; `orchestrator.tracking` says which, and when.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.mlflow_tags import (
    MLFLOW_GIT_COMMIT,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_SOURCE_NAME,
    MLFLOW_SOURCE_TYPE,
)

from orchestrator.environment import DATA_DIGEST
from orchestrator.events import PointEvaluated, SweepEnded, TrialEnded
from orchestrator.experiment import open_experiment, store_lock
from orchestrator.settings import SweepSettings
from orchestrator.trial_settings import by_dotted_name, without_effect
from orchestrator.trials import Trial

TRACES = "traces"
CONFIRMS = "confirms"
"""The tag that names the trial whose configuration a run repeats under a further seed."""
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
        self._tags = _environment_tags(environment)
        self._tried: set[str] = set()
        self._closed: set[str] = set()
        self.experiment_id = ""
        self.run_id = ""
        self.run_ids: dict[str, str] = {}
        self.children: dict[str, Run] = {}

    def open(self, sweep_yaml: str) -> None:
        """Opens the experiment and the sweep's run, or takes up what an earlier driver opened.

        Raises:
            mlflow.exceptions.MlflowException: the store refuses it; no new run is left.
        """
        with store_lock(self._settings.tracking.uri):
            self.experiment_id = open_experiment(self._client, self._settings)
        found = self._find_parent()
        if found:
            self.run_id = found.info.run_id
            self._client.update_run(self.run_id, status="RUNNING")
            self._client.log_batch(self.run_id, tags=[RunTag("status", "running"), RunTag("reason", "")])
            self._describe(self.run_id, sweep_yaml, with_params=not found.data.params)
            self.children = self._find_children()
            self.run_ids = {trial: run.info.run_id for trial, run in self.children.items()}
            self._closed = {t for t, run in self.children.items() if run.info.status != "RUNNING"}
        else:
            self.run_id = self._create_parent(sweep_yaml)
        self._note("", self.run_id)

    def _find_parent(self) -> Run | None:
        """The sweep's run, where an earlier driver opened it: the first of all that bear its id."""
        mine, oldest = f"tags.sweep_id = '{self._sweep_id}'", ["attributes.start_time ASC"]
        runs = self._client.search_runs([self.experiment_id], mine, max_results=1, order_by=oldest)
        return next((run for run in runs if MLFLOW_PARENT_RUN_ID not in run.data.tags), None)

    def _create_parent(self, sweep_yaml: str) -> str:
        tags = {
            **self._tags,
            MLFLOW_SOURCE_NAME: "orchestrator.sweep",
            MLFLOW_SOURCE_TYPE: "LOCAL",
            "sweep": self._sweep,
            "sweep_id": self._sweep_id,
            "status": "running",
            "objectives": ", ".join(f"{n} {d}" for n, d in self._settings.objectives.items()),
        }
        run = self._client.create_run(self.experiment_id, run_name=self._sweep, tags=tags)
        run_id = run.info.run_id
        try:
            self._describe(run_id, sweep_yaml, with_params=True)
        except BaseException:
            self._client.delete_run(run_id)
            raise
        return run_id

    def _describe(self, run_id: str, sweep_yaml: str, with_params: bool) -> None:
        """What the sweep is; params can be written once only, also where budgets have grown."""
        if with_params:
            search = self._settings.search.model_dump()
            params = [Param(f"search.{key}", str(value)) for key, value in search.items()]
            self._client.log_batch(run_id, params=params)
        self._client.log_text(run_id, sweep_yaml, "sweep.yaml")

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

    def start_child(self, trial: str) -> None:
        """Marks it as running, also where an earlier driver had ended it."""
        if trial in self._closed:
            self._client.update_run(self.run_ids[trial], status="RUNNING")
            self._closed.remove(trial)
        self.tag(trial, {"status": "running", "reason": ""})

    def log_report(self, trial: str, epochs: Mapping[int, Mapping[str, float]], at: float) -> None:
        """Metrics of a trial by epoch."""
        metrics = [
            Metric(name, value, _ms(at), epoch)
            for epoch, values in epochs.items()
            for name, value in values.items()
        ]
        self._client.log_batch(self.run_ids[trial], metrics=metrics)

    def end_child(self, event: TrialEnded) -> None:
        self.tag(event.trial, {"status": event.status, "reason": event.reason})
        run_id = self.run_ids[event.trial]
        if event.details:
            self._client.log_text(run_id, event.details, "failure.txt")
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

    def log_evaluation(self, event: PointEvaluated, folder: Path) -> None:
        run_id, place = self.run_ids[event.trial], f"evaluations/epoch-{event.epoch:04d}"
        if event.reason:
            text = f"{event.reason}\n\n{event.details}"
            self._client.log_text(run_id, text, f"{place}/failure.txt")
            return
        at = _ms(event.time)
        metrics = [Metric(name, value, at, event.epoch) for name, value in event.metrics.items()]
        self._client.log_batch(run_id, metrics=metrics)
        self._client.log_artifacts(run_id, str(folder), place)

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

    def write_pages(self, folder: Path) -> None:
        """The files of a folder as artifacts of the sweep's run."""
        self._client.log_artifacts(self.run_id, str(folder))

    def tag(self, trial: str, tags: Mapping[str, str]) -> None:
        run_tags = [RunTag(key, value) for key, value in tags.items()]
        self._client.log_batch(self.run_ids[trial], tags=run_tags)

    def tag_sweep(self, tags: Mapping[str, str]) -> None:
        """Tags of the sweep's own run."""
        self._client.log_batch(self.run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def close(self, event: SweepEnded, num_failed_evaluations: int) -> None:
        """Ends the sweep's run."""
        tags = {
            "failed_evaluations": str(num_failed_evaluations),
            "status": event.status,
            "reason": event.reason,
        }
        self._client.log_batch(self.run_id, tags=[RunTag(k, v) for k, v in tags.items()])
        self._client.set_terminated(self.run_id, _RUN_STATUS[event.status], end_time=_ms(event.time))


def trial_params(trial: Trial) -> dict[str, Any]:
    """Every setting of the trial by dotted name, without those that have no effect in it."""
    params = by_dotted_name(trial.config)
    return {n: v for n, v in params.items() if n not in without_effect(params["head.kind"])}


def _environment_tags(environment: Mapping[str, str]) -> dict[str, str]:
    # Names of digests are too long for tags; the ledger has them.
    facts = {name: value for name, value in environment.items() if not name.startswith(DATA_DIGEST)}
    tags = {MLFLOW_GIT_COMMIT: facts.pop("git_commit")} if "git_commit" in facts else {}
    tags |= {name: facts.pop(name) for name in ("data", "data_order") if name in facts}
    return {**tags, **{f"version.{name}": value for name, value in facts.items()}}


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
