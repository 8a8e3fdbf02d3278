"""The files of this machine that a sweep's settings name: found before Ray starts, as absolute paths,
since workers may have other working directories.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from orchestrator.errors import UserError
from orchestrator.search_space import Value
from orchestrator.settings import SweepSettings
from trainables.image_sources import TORCHVISION, find_directory
from trainables.image_tables import DataError

_WORDS = {"data.source": (TORCHVISION,), "encoder_weights": ("imagenet", "none")}
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
    source = _absolute("data.source", trial.data.source, must_exist, "trial")
    weights = _absolute("encoder_weights", trial.encoder_weights, must_exist, "trial")
    data = trial.data.model_copy(update={"source": source})
    trial = trial.model_copy(update={"data": data, "encoder_weights": weights})
    for name, parameter in space.items():
        changes: dict[str, object] = {
            "when": {
                parent: [_absolute(parent, value, False, "search_space") for value in allowed]
                for parent, allowed in parameter.when.items()
            }
        }
        if parameter.choice is not None:
            paths = [_absolute(name, value, must_exist, "search_space") for value in parameter.choice]
            if name in _WORDS:
                paths = list(dict.fromkeys(paths))  # two spellings of one path are one value
            changes["choice"] = paths
        space[name] = parameter.model_copy(update=changes)
    first_trials = [
        {name: _absolute(name, value, False, "first_trials") for name, value in given.items()}
        for given in settings.first_trials
    ]
    update = {"trial": trial, "search_space": space, "first_trials": first_trials}
    return settings.model_copy(update=update)


def _absolute(name: str, value: Value, must_exist: bool, group: str) -> Value:
    if name not in _WORDS or not isinstance(value, str) or value in _WORDS[name]:
        return value
    place = (group, *name.split(".")) if group == "trial" else (group, name)
    path = Path(value)
    with contextlib.suppress(RuntimeError):  # there is no such user
        path = path.expanduser()
    if name == "data.source":
        try:
            if find_directory(value) is None:
                return value
        except DataError as error:
            if must_exist:
                raise UserError(f"{group}.{error}", location=place) from None
    elif must_exist and not path.is_file():
        fault = "is not a file" if path.exists() else "does not exist"
        text = f"{group}.{name}: {path.absolute()} {fault}; name another path, imagenet or none"
        raise UserError(text, location=place)
    return str(path.absolute())
