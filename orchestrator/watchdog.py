"""Ends trials that hang: those without a report for too long."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import ray
from ray.tune.experiment import Trial as TuneTrial

_LOOK_EVERY_S = 1.0


def kill_process(trial: TuneTrial) -> None:
    """Kills the process of a trial, and with it the workers that it started; Tune hears that it died."""
    actor: Any = trial.temporary_state.ray_actor
    if actor is not None:
        ray.kill(actor)


class Watchdog:
    """Knows when each running trial was last heard of.

    Args:
        timeout_s: of silence; None for no limit.
        of_groups: whether each trial is a worker group, which may wait for its places after its start:
            silence counts from its first word then.
        kill: ends the trial that it is given.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        timeout_s: float | None,
        of_groups: bool = False,
        kill: Callable[[TuneTrial], None] = kill_process,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._timeout_s = timeout_s
        self._of_groups = of_groups
        self._kill = kill
        self._clock = clock
        self._heard: dict[TuneTrial, float] = {}
        self._killed: set[TuneTrial] = set()
        self._next_look = 0.0

    def start(self, trial: TuneTrial) -> None:
        """Its process runs."""
        if not self._of_groups:
            self.hear(trial)

    def hear(self, trial: TuneTrial) -> None:
        """It said something."""
        if self._timeout_s is not None:
            self._heard[trial] = self._clock()

    def forget(self, trial: TuneTrial) -> str:
        """It is over.

        Returns:
            Why it was killed; empty where it was not.
        """
        self._heard.pop(trial, None)
        if trial not in self._killed:
            return ""
        self._killed.remove(trial)
        return f"it hung: no report for {self._timeout_s:g} s (trial_timeout), so it was killed"

    def look(self) -> None:
        """Kills those that have been silent for too long."""
        now = self._clock()
        if self._timeout_s is None or now < self._next_look:
            return
        self._next_look = now + _LOOK_EVERY_S
        for trial, heard in list(self._heard.items()):
            if now - heard >= self._timeout_s:
                del self._heard[trial]
                self._killed.add(trial)
                self._kill(trial)
