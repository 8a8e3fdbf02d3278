"""Has what every trial needs ready on the cluster before the first one starts: data and weights."""

from __future__ import annotations

import ray
from ray.exceptions import RayTaskError

from orchestrator.errors import UserError
from orchestrator.settings import SweepSettings
from trainables.config import DATASET_FACTS, TrialConfig
from trainables.encoders import WeightsError, build_encoder, load_weights
from trainables.image_cache import open_images
from trainables.image_sources import DataError


def prepare(settings: SweepSettings) -> str:
    """Reads the data and the encoder's weights once, on a node of the cluster.

    What is read stays cached on that node; other nodes read it when their first trial starts.

    Returns:
        One sentence about the data; empty where it comes with the code.

    Raises:
        UserError: the data or the weights cannot be had.
    """
    if not needs_preparation(settings.trial):
        return ""
    task = ray.remote(num_cpus=1)(_prepare)
    try:
        return ray.get(task.remote(settings.trial.model_dump()))
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


def _prepare(trial: dict[str, object]) -> str:
    config = TrialConfig.model_validate(trial)
    load_weights(build_encoder(config.encoder), config.encoder, config.encoder_weights)
    if config.dataset == "digits":
        return ""
    images = open_images(config.dataset, config.data.source)
    return describe_split(images.source, images.is_original_order)


def describe_split(source: str, is_original_order: bool) -> str:
    """Whether the validation images are the paper's."""
    if is_original_order:
        return f"data from {source}, in the original order: the split is the paper's"
    return (
        f"data from {source}, whose rows may be in another order than the original archive's: the split "
        "is the paper's permutation of these rows"
    )
