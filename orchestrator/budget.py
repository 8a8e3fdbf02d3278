"""When a sweep stops as a whole: its budgets, the user's interrupt, or the loss of its cluster."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from ray.tune import Stopper

from orchestrator.events import SweepStatus
from orchestrator.record import SweepRecord
from orchestrator.settings import SearchSettings


def used_up(search: SearchSettings, record: SweepRecord) -> str:
    """Which budget in epochs or hypervolume ends the search now; empty where none does."""
    if search.epochs is not None and record.num_epochs >= search.epochs:
        return f"the budget of {search.epochs} epochs is used up"
    volumes, stall = record.hypervolumes, search.stall
    if stall is None or len(volumes) <= stall.trials:
        return ""
    before, now = volumes[-1 - stall.trials], volumes[-1]
    if not before:  # no point was within the reference, or held the constraints
        return ""
    if now - before > stall.growth * before:
        return ""
    return (
        f"the hypervolume has grown by no more than {100 * stall.growth:g} % in {stall.trials} trials, "
        f"from {before:.4g} to {now:.4g}"
    )


class SweepStopper(Stopper):
    """Asked by Ray Tune between events; once it says stop, running trials end and none starts.

    Budgets are the search's. After it, once they are lifted, only an interrupt or the loss of the
    cluster makes it say stop.

    Args:
        time_budget_s: seconds from `start` on; None for no limit.
        used_s: of the budget, by earlier drivers.
        clock: seconds that only grow.

    Attributes:
        status: what the sweep's end is then called.
    """

    def __init__(
        self,
        time_budget_s: float | None,
        used_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._budget_s = time_budget_s
        self._used_s = used_s
        self._spent = self._cut = ""
        self.status: SweepStatus = "completed"
        self.start()

    @property
    def reason(self) -> str:
        """Why it says stop; empty while it does not."""
        return self._cut or self._spent

    def start(
        self, used_up: Callable[[], str] = lambda: "", lost: Callable[[], str] = lambda: ""
    ) -> None:
        """Counts the time budget from now on.

        Args:
            used_up: says which other budget is used up; empty while none is.
            lost: says why no trial can run any more; empty while one can.
        """
        self._used_up = used_up
        self._lost = lost
        now = self._clock()
        self._deadline = None if self._budget_s is None else now + self._budget_s - self._used_s

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune's own snapshots are not used, the ledger is the one truth."""
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        if self.reason:
            return True
        now = self._clock()
        if self._deadline is not None and now >= self._deadline:
            self._spent = f"the time budget of {self._budget_s:g} s is used up"
        elif reason := self._used_up():
            self._spent = reason
        elif reason := self._lost():
            self.fail(reason)
        return bool(self.reason)

    def lift_budgets(self) -> None:
        """Goes on without any, also where one is used up."""
        self._deadline, self._used_up, self._spent = None, lambda: "", ""

    def fail(self, reason: str) -> None:
        """Makes it say stop at the next question, since no trial could do better."""
        if not self._cut:
            self._cut, self.status = reason, "failed"

    def interrupt(self, signal_name: str) -> None:
        """Makes it say stop at the next question."""
        self._cut = f"interrupted by {signal_name}"
        self.status = "interrupted"


@contextmanager
def tidy_interrupts(stopper: SweepStopper) -> Iterator[None]:
    """The first SIGINT or SIGTERM ends the sweep tidily; a second one at once."""

    def handle(number: int, frame: FrameType | None) -> None:
        if stopper.status == "interrupted":
            raise KeyboardInterrupt
        stopper.interrupt(signal.Signals(number).name)

    previous = {n: signal.signal(n, handle) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
