from __future__ import annotations

import os
import signal
import threading

import cloudpickle
import pytest
from sweep_events import ended, proposed, record_of, reported

from orchestrator.budget import SweepStopper, tidy_interrupts, used_up
from orchestrator.settings import SearchSettings, StallSettings


class Clock:
    """A clock that goes on when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def stopper_of(time_budget_s: float | None = None, clock: Clock | None = None) -> SweepStopper:
    return SweepStopper(time_budget_s, clock=clock or Clock())


def answers(stopper: SweepStopper, clock: Clock, times: list[float]) -> list[bool]:
    """What the stopper says when asked at these times."""
    said = []
    for clock.now in times:
        said.append(stopper.stop_all())
    return said


def test_a_sweep_stops_when_its_time_is_used_up() -> None:
    clock = Clock()
    stopper = stopper_of(60.0, clock)
    assert answers(stopper, clock, [1000.0, 1059.9, 1060.0, 1061.0]) == [False, False, True, True]
    assert stopper.reason == "the time budget of 60 s is used up"
    assert stopper.status == "completed"


def test_without_a_budget_a_sweep_goes_on() -> None:
    clock = Clock()
    stopper = stopper_of(None, clock)
    assert answers(stopper, clock, [1000.0, 1e6, 1e9]) == [False, False, False]
    assert stopper.reason == ""


def test_no_single_trial_is_stopped() -> None:
    stopper = stopper_of(0.0)
    assert stopper.stop_all()
    assert stopper("trial-0000", {"done": False}) is False


def test_an_interrupt_stops_the_sweep() -> None:
    stopper = stopper_of(60.0)
    stopper.interrupt("SIGTERM")
    assert stopper.stop_all()
    assert (stopper.status, stopper.reason) == ("interrupted", "interrupted by SIGTERM")


def test_a_cluster_that_is_lost_ends_the_sweep() -> None:
    stopper = stopper_of()
    reasons = iter(["", "", "no node is left"])
    stopper.start(lost=lambda: next(reasons))
    assert [stopper.stop_all() for _ in range(4)] == [False, False, True, True]
    assert (stopper.status, stopper.reason) == ("failed", "no node is left")


def test_another_budget_that_is_used_up_stops_the_sweep() -> None:
    stopper, said = stopper_of(60.0), ""
    stopper.start(lambda: said)
    assert not stopper.stop_all()
    said = "enough"
    assert stopper.stop_all()
    assert (stopper.status, stopper.reason) == ("completed", "enough")


def test_epochs_are_counted_over_all_trials_and_once() -> None:
    search = SearchSettings(epochs=7)
    first, second = "trial-0000", "trial-0001"
    events = [proposed(first), proposed(second, 1), reported(first, 5, 0.5, 9.0)]
    record = record_of(*events, reported(second, 1, 0.5, 9.0))
    assert record.num_epochs == 6
    assert used_up(search, record) == ""
    record.apply(reported(second, 2, 0.5, 9.0))
    assert used_up(search, record) == "the budget of 7 epochs is used up"
    assert used_up(SearchSettings(), record) == ""


@pytest.mark.parametrize(
    ("accuracies", "is_stalled"),
    [
        ([0.5, 0.5], False),  # two trials have to end after the one that they are compared with
        ([0.5, 0.5, 0.5], True),
        ([0.5, 0.5, 0.504], True),
        ([0.5, 0.5, 0.6], False),
        ([0.3, 0.6, 0.6], False),
        ([0.3, 0.6, 0.6, 0.6], True),
    ],
)
def test_a_hypervolume_that_no_longer_grows_ends_the_search(
    accuracies: list[float], is_stalled: bool
) -> None:
    record = record_of()
    for number, accuracy in enumerate(accuracies):
        name = f"trial-{number:04d}"
        for event in (proposed(name, number), reported(name, 1, accuracy, 9.0), ended(name)):
            record.apply(event)
    reason = used_up(SearchSettings(stall=StallSettings(trials=2, growth=0.01)), record)
    assert bool(reason) == is_stalled
    assert ("has grown by no more than 1 % in 2 trials" in reason) == is_stalled


def test_a_trial_that_a_resume_goes_on_with_is_no_sign_of_a_stall() -> None:
    record = record_of(proposed("trial-0000"), ended("trial-0000", "interrupted"))
    assert record.hypervolumes == []


def send(*numbers: signal.Signals) -> None:
    """Signals to this very process; each is handled before the next is sent."""
    for number in numbers:
        os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_ends_the_sweep_tidily(number: signal.Signals) -> None:
    stopper = stopper_of()
    with tidy_interrupts(stopper):
        assert not stopper.stop_all()
        send(number)
        assert stopper.stop_all()
    assert stopper.reason == f"interrupted by {number.name}"


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_ends_the_program(second: signal.Signals) -> None:
    stopper = stopper_of()
    with tidy_interrupts(stopper):
        send(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            send(second)
    assert stopper.reason == "interrupted by SIGTERM"


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


def interrupted_by(error: type[BaseException]) -> None:
    with tidy_interrupts(stopper_of()):
        raise error


def test_the_handlers_are_put_back() -> None:
    before = handlers()
    with tidy_interrupts(stopper_of()):
        during = handlers()
    assert not set(during) & set(before)
    assert handlers() == before


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_the_handlers_are_put_back_after_an_error(error: type[BaseException]) -> None:
    before = handlers()
    with pytest.raises(error):
        interrupted_by(error)
    assert handlers() == before


def test_what_follows_the_search_has_no_budget() -> None:
    clock = Clock()
    stopper = stopper_of(10.0, clock)
    stopper.start(lambda: "enough")
    assert answers(stopper, clock, [1010.0]) == [True]
    stopper.lift_budgets()
    assert stopper.reason == ""
    assert answers(stopper, clock, [1010.0, 9999.0]) == [False, False]


def test_what_follows_the_search_ends_with_the_nodes() -> None:
    stopper = stopper_of()
    stopper.start(lost=lambda: "no node is left")
    stopper.lift_budgets()
    assert stopper.stop_all()
    assert stopper.status == "failed"


@pytest.mark.parametrize("lifted_first", [True, False])
def test_an_interrupt_ends_what_follows_the_search(lifted_first: bool) -> None:
    stopper = stopper_of()
    steps = [stopper.lift_budgets, lambda: stopper.interrupt("SIGINT")]
    for step in steps if lifted_first else reversed(steps):
        step()
    assert stopper.stop_all()
    assert (stopper.status, stopper.reason) == ("interrupted", "interrupted by SIGINT")


def test_tune_may_pickle_it_whatever_it_asks() -> None:
    lock = threading.Lock()
    stopper = SweepStopper(None)
    stopper.start(lambda: str(lock))
    assert cloudpickle.dumps(stopper)
