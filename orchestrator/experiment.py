"""The MLflow experiment of a sweep: made where it is missing, with its artifacts where they belong."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Experiment

from orchestrator.settings import SweepSettings

EXPERIMENT_KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Marks the experiment as model training. MLflow 3.17's pages follow the reader's last choice of mode
or `workflowType` in the address rather than this tag, so `Tracker.url` gives both."""


def store_lock(uri: str) -> FileLock:
    """Keeps two sweeps on one machine from making the same database at the same time."""
    name = hashlib.sha256(uri.encode()).hexdigest()[:16]
    return FileLock(Path(tempfile.gettempdir()) / f"monocon-sweep-{os.getuid()}-{name}.lock")


def open_experiment(client: MlflowClient, settings: SweepSettings) -> str:
    """The experiment's id; a new one keeps its artifacts beside a local database."""
    experiment: Experiment | None = client.get_experiment_by_name(settings.experiment)
    if experiment is None:
        location = artifact_location(settings.tracking.uri, settings.experiment)
        return client.create_experiment(settings.experiment, location, tags=EXPERIMENT_KIND)
    for key, value in EXPERIMENT_KIND.items():
        if experiment.tags.get(key) != value:
            client.set_experiment_tag(experiment.experiment_id, key, value)
    return experiment.experiment_id


def artifact_location(uri: str, experiment: str) -> str | None:
    """Beside the database where that is a file; else as the server decides (None)."""
    if not uri.startswith("sqlite:///"):
        return None
    database = Path(uri.removeprefix("sqlite:///")).absolute()
    return (database.parent / "mlartifacts" / experiment).as_uri()
