"""Which attempts at a trial or a final evaluation are followed by another one, when, and the queue of
those that wait for it. Pure but for the queue.

What an attempt trained is in the trial's checkpoint, and the next one goes on from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")
# Not `FailureKind` itself, whose file imports Ray.
_PASSING = ("preempted", "lost", "unreachable")
_FIRST_PAUSE_S, _PAUSE_GROWS_BY, _LONGEST_PAUSE_S = 5.0, 4.0, 60.0


class Verdict(NamedTuple):
    """What follows from a failed attempt.

    Attributes:
        is_retried: whether there is another one.
        is_counted: whether it is one of `max_retries`.
        pause_s: seconds before it.
    """

    is_retried: bool
    is_counted: bool = True
    pause_s: float = 0.0


def judge(kind: str, num_retries: int, max_retries: int) -> Verdict:
    """What follows from an attempt that failed in one of the ways of `failures.FailureKind`.

    Args:
        kind: of the failure. What the training raised itself it would raise again.
        num_retries: those so far that count.
        max_retries: that may count.
    """
    if kind == "preempted":
        return Verdict(True, is_counted=False)
    if kind not in _PASSING or num_retries >= max_retries:
        return Verdict(False)
    # A process is started again elsewhere at once; storage that is away needs time to come back.
    if kind != "unreachable":
        return Verdict(True)
    return Verdict(True, pause_s=min(_FIRST_PAUSE_S * _PAUSE_GROWS_BY**num_retries, _LONGEST_PAUSE_S))


def words(is_counted: bool, num_retries: int) -> str:
    """What number a retry is, such as "retry 2".

    Args:
        is_counted: whether it is one of `max_retries`.
        num_retries: those that count, this one included.
    """
    return f"retry {num_retries}" if is_counted else "not counted as a retry"


class RetryQueue(Generic[T]):
    """What waits for its next attempt, in the order in which they may begin.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting: list[tuple[float, T]] = []

    def put(self, item: T, pause_s: float) -> None:
        self._waiting.append((self._clock() + pause_s, item))
        self._waiting.sort(key=lambda entry: entry[0])

    def take(self) -> T | None:
        """The first whose pause is over; None where there is none."""
        if not self._waiting or self._waiting[0][0] > self._clock():
            return None
        return self._waiting.pop(0)[1]

    def __contains__(self, item: T) -> bool:
        return any(waiting is item for _, waiting in self._waiting)

    def __len__(self) -> int:
        return len(self._waiting)
