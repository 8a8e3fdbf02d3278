"""The files of this machine that a sweep's settings name: found before Ray starts, as absolute paths,
since workers may have other working directories.
"""

from __future__ import annotations

from pathlib import Path

from orchestrator.errors import UserError
from orchestrator.search_space import Value
from orchestrator.settings import SweepSettings

_WORDS = {"data.source": ("torchvision",), "encoder_weights": ("imagenet", "none")}
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
    for name in space.keys() & _WORDS.keys():
        choice = [
            _absolute(name, value, must_exist, "search_space") for value in space[name].choice or []
        ]
        space[name] = space[name].model_copy(update={"choice": choice})
    first_trials = [
        {name: _absolute(name, value, False, "first_trials") for name, value in given.items()}
        for given in settings.first_trials
    ]
    update = {"trial": trial, "search_space": space, "first_trials": first_trials}
    return settings.model_copy(update=update)


def _absolute(name: str, value: Value, must_exist: bool, group: str) -> Value:
    if name not in _WORDS or not isinstance(value, str) or value in _WORDS[name]:
        return value
    path = Path(value).expanduser() if value.startswith("~/") else Path(value)
    # A source that is neither spelled as a path nor one that is there is a hub id.
    is_path = name == "encoder_weights" or value.startswith((".", "/", "~")) or path.exists()
    if not is_path:
        return value
    if must_exist and not path.exists():
        others = " or ".join(("a hub id", *_WORDS[name]) if name == "data.source" else _WORDS[name])
        place = (group, *name.split(".")) if group == "trial" else (group, name)
        text = f"{'.'.join(place)}: {path.absolute()} does not exist; name another path, {others}"
        raise UserError(text, location=place)
    return str(path.absolute())
