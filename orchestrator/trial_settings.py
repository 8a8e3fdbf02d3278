"""A trial's configuration as dotted names and values, the form in which MLflow has it. Pure."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import NoneType
from typing import Any, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError

from orchestrator.search_space import Value
from trainables.config import TrialConfig
from trainables.facts import DATASET_FACTS

_OF_A_HEAD = frozenset({"head.depth", "head.width_ratio"})
_OF_SENTENCES = frozenset(
    {
        "bucketing",
        "data.distinct_sentences",
        "data.max_length",
        "data.scored_pairs",
        "encoder_dim",
    }
)


def by_dotted_name(config: Mapping[str, Any], prefix: str = "") -> dict[str, Value]:
    """Every setting of a configuration that is groups in groups."""
    settings: dict[str, Value] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            settings |= by_dotted_name(value, f"{prefix}{name}.")
        else:
            settings[prefix + name] = value
    return settings


def without_effect(head_kind: Value) -> frozenset[str]:
    """The settings that change nothing in a trial with this kind of head."""
    return _OF_A_HEAD if head_kind == "none" else frozenset()


def without_effect_on(dataset: Value) -> frozenset[str]:
    """The settings that change nothing in a trial on a dataset, so that sweeps from before there were
    such settings are like those of today.
    """
    tasks = {str(name): facts.task for name, facts in DATASET_FACTS.items()}
    if tasks.get(str(dataset)) != "classification":
        return frozenset()
    return _OF_SENTENCES if dataset == "image_folder" else _OF_SENTENCES | {"data.image_size"}


def from_text(texts: Mapping[str, str]) -> dict[str, Value]:
    """Inverts `str` of each value; what is no setting or no value of it stays as it is."""
    types = _types(TrialConfig)
    return {name: _parsed(types[name], text) if name in types else text for name, text in texts.items()}


@functools.cache
def _types(model: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """The type of every setting by dotted name."""
    types: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            types |= _types(info.annotation, f"{prefix}{name}.")
        else:
            types[prefix + name] = info.annotation
    return types


def _parsed(kind: Any, text: str) -> Value:
    if text == str(None) and NoneType in get_args(kind):
        return None
    try:
        return _adapter(kind).validate_strings(text)
    except ValidationError:
        return text


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Made once a type: one a value was 1.3 ms of each trial that is read, and is 0.06 ms now."""
    return TypeAdapter(kind)
