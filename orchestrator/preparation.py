"""Has what every trial needs ready on the cluster before the first one starts: data and weights."""

from __future__ import annotations

import ray
from ray.exceptions import RayTaskError

from orchestrator.errors import UserError
from orchestrator.settings import SweepSettings
from trainables.config import DATASET_FACTS, TrialConfig
from trainables.encoders import WeightsError, build_encoder, load_weights
from trainables.image_sources import DataError
from trainables.images import DATASETS


def prepare(settings: SweepSettings) -> None:
    """Reads the data and the encoder's weights once, on a node of the cluster.

    What is read stays cached on that node; other nodes read it when their first trial starts.

    Raises:
        UserError: the data or the weights cannot be had.
    """
    if not needs_preparation(settings.trial):
        return
    task = ray.remote(num_cpus=1)(_prepare)
    try:
        ray.get(task.remote(settings.trial.model_dump()))
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, DataError):
            raise UserError(f"trial.{cause}", location=("trial", "data", "source")) from None
        if isinstance(cause, WeightsError):
            raise UserError(f"trial.{cause}", location=("trial", "encoder_weights")) from None
        raise


def needs_preparation(trial: TrialConfig) -> bool:
    """Whether anything has to be read from outside."""
    return DATASET_FACTS[trial.dataset].has_sources or trial.encoder_weights != "none"


def _prepare(trial: dict[str, object]) -> None:
    config = TrialConfig.model_validate(trial)
    DATASETS[config.dataset](config.data.source)
    load_weights(build_encoder(config.encoder), config.encoder, config.encoder_weights)
