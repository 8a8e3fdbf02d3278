"""Has what the trials need ready on the cluster before the first one starts: data and weights."""

from __future__ import annotations

from typing import NamedTuple

import ray
import torch
from ray.exceptions import RayError, RayTaskError

from orchestrator.errors import UserError
from orchestrator.search_space import combinations, to_trial_config
from orchestrator.settings import SweepSettings
from trainables.config import DATASET_FACTS, TrialConfig
from trainables.encoders import WeightsError, build_encoder, load_weights
from trainables.image_cache import open_images
from trainables.image_sources import DataError
from trainables.images import load_dataset

_READ_FROM = ("dataset", "data.source", "data.num_classes", "data.num_training_items")
_READ_FROM_ENCODER = ("encoder", "encoder_weights")


class DataFacts(NamedTuple):
    """What is known of a dataset once it is read.

    Attributes:
        source: where it comes from: a hub id, an absolute path, or torchvision.
        is_original_order: whether its rows are in the order of the authors' archive, and so the split
            is the paper's.
        num_items: of training, validation and test set.
    """

    source: str
    is_original_order: bool
    num_items: tuple[int, int, int]

    def sentence(self) -> str:
        """All of it, for people."""
        training, validation, test = self.num_items
        order = (
            "in the original order: the split is the paper's"
            if self.is_original_order
            else "whose rows may be in another order than the original archive's: the split is the "
            "paper's permutation of these rows"
        )
        return (
            f"data from {self.source}, {order}; {training:,} training, {validation:,} validation and "
            f"{test:,} test images"
        )


def prepare(settings: SweepSettings) -> list[DataFacts]:
    """Reads every dataset and all weights that a trial may need once, on a node of the cluster.

    What is read stays cached on that node; other nodes read it when their first trial starts.

    Returns:
        The facts of each dataset; none of what comes with the code.

    Raises:
        UserError: the data or the weights cannot be had.
    """
    configs = needed_by(settings)
    if not configs:
        return []
    task = ray.remote(num_cpus=1)(_prepare)
    try:
        return ray.get(task.remote([config.model_dump() for config in configs]))
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, DataError):
            raise UserError(f"trial.{cause}", location=("trial", "data", "source")) from None
        if isinstance(cause, WeightsError):
            raise UserError(f"trial.{cause}", location=("trial", "encoder_weights")) from None
        raise
    except RayError as error:
        raise UserError(f"the process that reads data and weights ended early: {error}") from None


def needed_by(settings: SweepSettings) -> list[TrialConfig]:
    """A configuration for each dataset and weights from outside that a trial may ask for."""
    wanted = [name for name in settings.search_space if name in _READ_FROM + _READ_FROM_ENCODER]
    found: dict[object, TrialConfig] = {}
    for values in combinations(settings.search_space, wanted):
        config = to_trial_config(settings.trial, values)
        if DATASET_FACTS[config.dataset].has_sources or config.encoder_weights != "none":
            data = config.data.model_dump_json()
            found.setdefault((config.dataset, data, config.encoder, config.encoder_weights), config)
    return list(found.values())


def _prepare(trials: list[dict[str, object]]) -> list[DataFacts]:
    facts: dict[DataFacts, None] = {}
    for trial in trials:
        config = TrialConfig.model_validate(trial)
        load_weights(build_encoder(config.encoder), config.encoder, config.encoder_weights)
        if config.dataset == "digits":
            continue
        images = open_images(config.dataset, config.data.source)
        data = load_dataset(config.dataset, config.data, torch.device("cpu"))
        num_items = len(data.training), len(data.validation), len(data.test)
        facts[DataFacts(images.source, images.is_original_order, num_items)] = None
    return list(facts)
