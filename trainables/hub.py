"""The Hugging Face hub, asked once where its libraries would retry for long, and without their noise."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Literal

TIMEOUT_S = 10.0


def hub_fault(name: str, kind: Literal["dataset", "model"]) -> Exception | None:
    """Why the hub has no answer for a repository; None where it has."""
    from datasets import config
    from huggingface_hub import HfApi

    hub = HfApi(endpoint=config.HF_ENDPOINT)
    ask = hub.dataset_info if kind == "dataset" else hub.model_info
    try:
        with without_noise():
            ask(name, timeout=TIMEOUT_S)
    except Exception as error:  # noqa: BLE001 - which HTTP library's errors these are varies by version
        return error
    return None


@contextlib.contextmanager
def downloads_only() -> Iterator[None]:
    """Has `datasets` use what it downloaded earlier, without asking the hub."""
    from datasets import config

    was_offline = config.HF_HUB_OFFLINE
    config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE = was_offline


@contextlib.contextmanager
def without_noise() -> Iterator[None]:
    """Keeps `datasets` and `huggingface_hub` from progress bars and from logging what we report."""
    import datasets.utils.logging
    import huggingface_hub.utils.logging

    with contextlib.ExitStack() as stack:
        for library in (datasets, huggingface_hub):
            log = library.utils.logging
            stack.callback(log.set_verbosity, log.get_verbosity())
            log.set_verbosity(logging.CRITICAL)
            if not library.utils.are_progress_bars_disabled():
                stack.callback(library.utils.enable_progress_bars)
                library.utils.disable_progress_bars()
        yield


def brief(error: Exception) -> str:
    """An error in one line of bearable length."""
    text = " ".join(str(error).split())
    return f"{text[:300] or 'no reason given'} ({type(error).__name__})"
