"""The files of this machine that a sweep's settings name: found before Ray starts, as absolute paths,
since workers may have other working directories.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from orchestrator.errors import UserError
from orchestrator.search_space import Value
from orchestrator.settings import SweepSettings
from trainables.errors import DataError, WeightsError
from trainables.image_folder import find_folder
from trainables.image_sources import TORCHVISION, find_directory
from trainables.sentence_sources import find_source
from trainables.transformer_weights import PACKAGES, locate_weights

_WORDS = {
    "data.source": (TORCHVISION,),
    "data.scored_pairs": (),
    "encoder_weights": ("imagenet", "none", *PACKAGES),
}
"""The settings that may name a path, and what they may say instead."""


def with_absolute_paths(settings: SweepSettings, must_exist: bool) -> SweepSettings:
    """The settings with every path in them absolute.

    Args:
        settings: as they were read.
        must_exist: whether the workers see this machine's files.

    Raises:
        UserError: a path names nothing.
    """
    trial, space = settings.trial, dict(settings.search_space)

    def absolute(name: str, value: Value, must_exist: bool, group: str) -> Value:
        return _absolute(settings, name, value, must_exist, group)

    source = absolute("data.source", trial.data.source, must_exist, "trial")
    scored = absolute("data.scored_pairs", trial.data.scored_pairs, must_exist, "trial")
    weights = absolute("encoder_weights", trial.encoder_weights, must_exist, "trial")
    data = trial.data.model_copy(update={"source": source, "scored_pairs": scored})
    trial = trial.model_copy(update={"data": data, "encoder_weights": weights})
    for name, parameter in space.items():
        changes: dict[str, object] = {
            "when": {
                parent: [absolute(parent, value, False, "search_space") for value in allowed]
                for parent, allowed in parameter.when.items()
            }
        }
        if parameter.choice is not None:
            paths = [absolute(name, value, must_exist, "search_space") for value in parameter.choice]
            if name in _WORDS:
                paths = list(dict.fromkeys(paths))  # two spellings of one path are one value
            changes["choice"] = paths
        space[name] = parameter.model_copy(update=changes)
    first_trials = [
        {name: absolute(name, value, False, "first_trials") for name, value in given.items()}
        for given in settings.first_trials
    ]
    update = {"trial": trial, "search_space": space, "first_trials": first_trials}
    return settings.model_copy(update=update)


def _absolute(settings: SweepSettings, name: str, value: Value, must_exist: bool, group: str) -> Value:
    if name not in _WORDS or not isinstance(value, str) or value in _WORDS[name]:
        return value
    place = (group, *name.split(".")) if group == "trial" else (group, name)
    path = Path(value)
    with contextlib.suppress(RuntimeError):  # there is no such user
        path = path.expanduser()
    try:
        if not _is_path(settings, name, value):
            return value
    except (DataError, WeightsError) as error:
        if must_exist:
            raise UserError(f"{group}.{error}", location=place) from None
    return str(path.absolute())


def _is_path(settings: SweepSettings, name: str, value: str) -> bool:
    """Whether a setting's value is a path, not a hub id.

    Raises:
        DataError: it is a path of nothing that could be data.
        WeightsError: it is a path of nothing that could be weights.
    """
    if name == "encoder_weights":
        return _is_path_of_weights(settings, value)
    varied = settings.search_space.get("dataset")
    datasets = [settings.trial.dataset] if varied is None else varied.extremes()
    if name == "data.source" and "image_folder" in datasets:
        try:
            find_folder(value)
        except DataError:
            if set(datasets) == {"image_folder"}:
                raise
        else:
            return True
    if settings.trial.task == "similarity":
        return find_source(name, value).is_local
    return find_directory(value) is not None


def _is_path_of_weights(settings: SweepSettings, value: str) -> bool:
    varied = settings.search_space.get("encoder")
    encoders = [settings.trial.encoder] if varied is None else varied.extremes()
    path = Path(value)
    with contextlib.suppress(RuntimeError):  # there is no such user
        path = path.expanduser()
    if "transformer" in encoders and not path.is_file():
        _, is_on_hub = locate_weights(value)
        return not is_on_hub
    if not path.is_file():
        fault = "is not a file" if path.exists() else "does not exist"
        raise WeightsError(
            f"encoder_weights: {path.absolute()} {fault}; name another path, imagenet or none"
        )
    return True
