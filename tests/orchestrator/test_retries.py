from __future__ import annotations

import pytest
from sweep_events import record_of

from orchestrator.retries import RetryQueue, Verdict, judge


@pytest.mark.parametrize("num_retries", [0, 3, 100])
def test_a_preempted_node_never_counts(num_retries: int) -> None:
    assert judge("preempted", num_retries, 0) == Verdict(True, is_counted=False)


@pytest.mark.parametrize("kind", ["lost", "unreachable"])
def test_what_comes_from_outside_is_tried_again_up_to_the_limit(kind: str) -> None:
    assert [judge(kind, number, 2).is_retried for number in range(4)] == [True, True, False, False]
    assert not judge(kind, 0, 0).is_retried


def test_what_the_training_raised_is_not() -> None:
    assert not judge("raised", 0, 100).is_retried


def test_only_storage_is_waited_for_and_each_time_longer_up_to_a_minute() -> None:
    assert [judge("unreachable", number, 9).pause_s for number in (0, 1, 2, 8)] == [
        5.0,
        20.0,
        60.0,
        60.0,
    ]
    assert [judge("lost", number, 3).pause_s for number in range(3)] == [0.0, 0.0, 0.0]


def test_the_queue_gives_each_trial_once_its_own_pause_is_over() -> None:
    now = 0.0
    queue = RetryQueue(lambda: now)
    first, second, other = record_of().trials.values()
    queue.put(first, 20.0)
    queue.put(second, 5.0)
    assert (first in queue, second in queue, other in queue, len(queue)) == (True, True, False, 2)
    taken = []
    for now in (4.0, 5.0, 6.0, 20.0, 21.0):  # noqa: B007 - what the lambda sees
        taken.append(queue.take())
    assert taken == [None, second, None, first, None]
    assert first not in queue and not queue
