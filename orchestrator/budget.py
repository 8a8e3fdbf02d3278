"""When a sweep stops as a whole: its time budget, or the user's interrupt."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from ray.tune import Stopper


class SweepStopper(Stopper):
    """Asked by Ray Tune between events; once it says stop, running trials end and none starts.

    Attributes:
        reason: why it said stop; empty until then.
        interrupted: whether that was a signal.
    """

    def __init__(self, time_budget_s: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._deadline = None if time_budget_s is None else clock() + time_budget_s
        self._budget_s = time_budget_s
        self.reason = ""
        self.interrupted = False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        if not self.reason and self._deadline is not None and self._clock() >= self._deadline:
            self.reason = f"the time budget of {self._budget_s:g} s is used up"
        return bool(self.reason)

    def interrupt(self, signal_name: str) -> None:
        self.reason = f"interrupted by {signal_name}"
        self.interrupted = True


@contextmanager
def tidy_interrupts(stopper: SweepStopper) -> Iterator[None]:
    """The first SIGINT or SIGTERM ends the sweep tidily; a second one at once."""

    def handle(number: int, frame: FrameType | None) -> None:
        if stopper.interrupted:
            raise KeyboardInterrupt
        stopper.interrupt(signal.Signals(number).name)

    previous = {n: signal.signal(n, handle) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
