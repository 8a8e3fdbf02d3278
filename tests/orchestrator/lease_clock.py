"""A clock for leases, which whoever sleeps moves on."""

from __future__ import annotations

from collections.abc import Callable


class Clock:
    """Stands in for the module `time`: who sleeps is awake at once, that much later.

    Attributes:
        slept: every sleep, in seconds.
        meanwhile: is called during each of them.
    """

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.meanwhile: Callable[[], object] = lambda: None
        self._now = 1000.0

    def time(self) -> float:
        return self._now

    monotonic = time

    def clock_gettime(self, _: int) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += seconds
        self.slept.append(seconds)
        self.meanwhile()
