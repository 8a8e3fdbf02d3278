"""What the driver has nodes of the cluster do before the first trial, in Ray tasks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import ray

_LOOK_EVERY_S = 0.2
_SILENT_S = 10.0


def result_of(
    task: ray.ObjectRef, what: str, tell: Callable[[str], None], is_stopped: Callable[[], bool]
) -> Any:
    """The result of a task, which may have to wait until others leave room for it.

    Args:
        task: that was started.
        what: it is that one waits for; told where it takes long.
        tell: takes a sentence.
        is_stopped: whether it is no longer wanted.

    Raises:
        ray.exceptions.RayError: the task failed.
        KeyboardInterrupt: it is no longer wanted.
    """
    begun, is_told = time.monotonic(), False
    while not ray.wait([task], timeout=_LOOK_EVERY_S)[0]:
        if is_stopped():
            ray.cancel(task, force=True)
            raise KeyboardInterrupt
        if not is_told and time.monotonic() - begun >= _SILENT_S:
            is_told = True
            tell(f"still waiting for {what}")
    return ray.get(task)
