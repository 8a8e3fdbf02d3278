"""Has what the trials need ready on the cluster before the first one starts: data and weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import ray
from ray.exceptions import RayError, RayTaskError

from orchestrator.environment import DATA_DIGEST
from orchestrator.errors import UserError
from orchestrator.ray_tasks import result_of
from orchestrator.search_space import combinations, to_trial_config
from orchestrator.settings import SweepSettings
from orchestrator.trial_settings import by_dotted_name
from trainables.config import TrialConfig
from trainables.errors import DataError
from trainables.facts import DATASET_FACTS

_READ_FROM = ("dataset", "data.source", "data.scored_pairs", "data.image_size", "data.max_length")
_AMOUNTS = ("data.num_classes", "data.num_training_items")
_WEIGHTS = ("encoder", "encoder_dim", "encoder_weights")


class DataFacts(NamedTuple):
    """What is known of a dataset once it is read.

    Attributes:
        source: where it comes from: hub ids, absolute paths, or torchvision.
        is_original_order: whether its rows are in the order of the authors' archive, and so the split
            is the paper's; None where the order has no say in the split.
        name: what was read, as the settings name it: the same in every driver of a sweep.
        digest: of what was read, as trials train on it.
    """

    source: str
    is_original_order: bool | None = None
    name: str = ""
    digest: str = ""

    def sentence(self) -> str:
        """All of it, for people."""
        if self.is_original_order is None:
            return f"data from {self.source}"
        if self.is_original_order:
            return f"data from {self.source}, in the original order: the split is the paper's"
        return (
            f"data from {self.source}, whose rows may be in another order than the original archive's: "
            "the split is the paper's permutation of these rows"
        )


def describe_data(data: Sequence[DataFacts]) -> dict[str, str]:
    """What a sweep's environment says of its data: of an order only where one has a say, and a digest of
    each that was read.
    """
    tags = {"data": "; ".join(sentences(data))} if data else {}
    orders = {facts.is_original_order for facts in data} - {None}
    if orders:
        tags["data_order"] = "original" if orders == {True} else "of the source"
    return tags | {f"{DATA_DIGEST}{facts.name}": facts.digest for facts in data if facts.digest}


def sentences(data: Sequence[DataFacts]) -> list[str]:
    """All of it, for people; once what was read in several ways, such as at several sizes."""
    return list(dict.fromkeys(facts.sentence() for facts in data))


def prepare(
    settings: SweepSettings, tell: Callable[[str], None], is_stopped: Callable[[], bool]
) -> list[DataFacts]:
    """Reads every dataset and all weights that a trial may need once, on a node of the cluster.

    What is read stays cached on that node; other nodes read it when their first trial starts.

    Returns:
        The facts of each dataset as it is read, by every tokeniser or at every size; none of what comes
        with the code.

    Raises:
        UserError: the data or the weights cannot be had.
        KeyboardInterrupt: they are no longer wanted.
    """
    configs = needed_by(settings)
    if not configs:
        return []
    task = ray.remote(num_cpus=1)(_prepare).remote([config.model_dump() for config in configs])
    try:
        return result_of(task, "data and weights, which a node with a free CPU reads", tell, is_stopped)
    except RayTaskError as error:
        from trainables.errors import WeightsError

        cause = error.cause
        if isinstance(cause, (DataError, WeightsError)):
            raise _refusal(str(cause), settings) from None
        raise
    except RayError as error:
        raise UserError(f"the process that reads data and weights ended early: {error}") from None


def _refusal(message: str, settings: SweepSettings) -> UserError:
    """The error with the place of the setting that its message begins with."""
    known = [name for name in (*_READ_FROM, *_AMOUNTS, *_WEIGHTS) if message.startswith(name)]
    name = known[-1] if known else "data.source"
    if name in settings.search_space:
        return UserError(f"search_space: {message}", location=("search_space", name))
    return UserError(f"trial.{message}", location=("trial", *name.split(".")))


def needed_by(settings: SweepSettings) -> list[TrialConfig]:
    """Configurations that between them name all data and weights from outside that a trial may want."""
    names = (*_READ_FROM, *_AMOUNTS, *_WEIGHTS)
    varied = [name for name in settings.search_space if name in names]
    wanted: dict[object, TrialConfig] = {}
    for values in combinations(settings.search_space, varied):
        config = to_trial_config(settings.trial, values)
        weights = config.encoder, config.encoder_dim, config.encoder_weights
        amounts = config.data.num_training_items and config.data.num_classes
        if DATASET_FACTS[config.dataset].source != "bundled" or amounts:  # the settings know all else
            # What sentences are turned into depends on the tokeniser, which comes with the weights.
            read_by = weights if config.task == "similarity" else ()
            wanted.setdefault((config.dataset, config.data.model_dump_json(), read_by), config)
        if config.encoder_weights != "none":
            wanted.setdefault(weights, config)
    return list(dict.fromkeys(wanted.values()))


def _prepare(trials: list[dict[str, object]]) -> list[DataFacts]:
    from trainables.encoders import build_encoder

    configs = [TrialConfig.model_validate(trial) for trial in trials]
    weights = {(c.encoder, c.encoder_dim, c.encoder_weights, c.data.max_length): c for c in configs}
    for config in weights.values():
        build_encoder(config)
    facts = (_facts(config) for config in configs)
    return list(dict.fromkeys(found for found in facts if found))


def _facts(config: TrialConfig) -> DataFacts | None:
    """Reads the data of a configuration; None of what comes with the code."""
    import torch

    from trainables.image_cache import open_images
    from trainables.images import require_items
    from trainables.sentences import describe_sources, load_sentences

    name = _name(config)
    if config.task == "similarity":
        digest = load_sentences(config, torch.device("cpu")).digest
        return DataFacts(describe_sources(config), None, name, digest)
    digest = require_items(config.dataset, config.data).digest
    if config.dataset == "cifar10" or config.dataset == "cifar100":  # noqa: PLR1714 - for pyright
        images = open_images(config.dataset, config.data.source)
        return DataFacts(images.source, images.is_original_order, name, digest)
    source = config.data.source
    return None if source is None else DataFacts(source, None, name, digest)


def _name(config: TrialConfig) -> str:
    """The dataset and the settings that say how it is read; how much of it is used is none of them."""
    names = ["data.source", "data.image_size"]
    if config.task == "similarity":
        names = ["data.source", "data.scored_pairs", "data.max_length", "encoder_weights"]
    values = by_dotted_name(config.model_dump())
    given = [f"{name} {values[name]}" for name in names if values[name] is not None]
    return ", ".join([f"dataset {config.dataset}", *given])
