from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, cast

import pytest
from ray.exceptions import WorkerCrashedError
from ray.train.v2.api.exceptions import PreemptionError
from ray.train.v2.api.preemption import PreemptionInfo
from ray.tune.experiment import Trial as TuneTrial
from sweep_events import record_of, started

from orchestrator.budget import SweepStopper
from orchestrator.events import Event, TrialEnded, TrialRetried
from orchestrator.retries import RetryQueue
from orchestrator.tune_events import TuneEvents
from orchestrator.watchdog import Watchdog
from trainables.disk import DiskFullError
from trainables.ray_train import NAME_KEY

NAME = "trial-0001"


class Attempt:
    """What our callback asks of Tune's trial.

    Args:
        folder: where its error is written, as Tune does.
        error: that ended it.
    """

    def __init__(self, folder: Path, error: Exception) -> None:
        self.config = {NAME_KEY: NAME}
        self.error_file = str(folder / "error.txt")
        self.pickled_error_file = str(folder / "error.pkl")
        Path(self.error_file).write_text(f"{type(error).__module__}.{type(error).__name__}: {error}")
        Path(self.pickled_error_file).write_bytes(pickle.dumps(error))


class Sweep:
    """A sweep with one trial, whose attempts fail as they are told to."""

    def __init__(self, folder: Path, max_retries: int = 2, of_groups: bool = False) -> None:
        self.folder = folder
        self.now = 0.0
        self.killed: list[TuneTrial] = []
        self.emitted: list[Event] = []
        self.num_steps = 0
        self.record = record_of(started(NAME))
        self.stopper = SweepStopper(None)
        self.retries = RetryQueue(lambda: self.now)
        watchdog = Watchdog(5.0, of_groups, self.killed.append, lambda: self.now)
        self.events = TuneEvents(
            self._emit, self.record, self.stopper, {}, self.retries, max_retries, watchdog, self._step
        )

    def _step(self) -> None:
        self.num_steps += 1

    def _emit(self, event: Event) -> None:
        self.emitted.append(event)
        self.record.apply(event)

    def attempt(self, error: Exception) -> TuneTrial:
        return cast(Any, Attempt(self.folder, error))

    def fail(self, error: Exception) -> Event:
        """What comes of an attempt that ends with an error."""
        self.events.on_trial_error(0, [], self.attempt(error))
        return self.emitted[-1]


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return Sweep(tmp_path)


def test_each_step_of_tune_is_told_of_also_while_no_trial_runs(sweep: Sweep) -> None:
    for step in (1, 2):
        sweep.events.on_step_end(step, [])
        assert sweep.num_steps == step


def test_a_process_that_dies_is_followed_by_another_as_often_as_allowed(sweep: Sweep) -> None:
    for number in (1, 2):
        assert isinstance(sweep.fail(WorkerCrashedError()), TrialRetried)
        assert sweep.retries.take() is sweep.record.trials[NAME]
        assert sweep.record.trials[NAME].num_retries == number
        assert sweep.record.trials[NAME].status == "pending"
    end = sweep.fail(WorkerCrashedError())
    assert isinstance(end, TrialEnded) and end.status == "failed"
    assert end.reason.startswith("WorkerCrashedError: ") and end.reason.endswith(" (attempt 3)")
    assert len(sweep.retries) == 0


def test_a_preempted_node_is_named_and_does_not_count(sweep: Sweep) -> None:
    for _ in range(5):
        event = sweep.fail(PreemptionError(PreemptionInfo(None, {})))
        assert isinstance(event, TrialRetried) and not event.is_counted
        assert event.reason == "its node was preempted"
        assert sweep.retries.take() is sweep.record.trials[NAME]


def test_what_the_training_raises_is_raised_once(sweep: Sweep) -> None:
    end = sweep.fail(ValueError("no such layer"))
    assert isinstance(end, TrialEnded) and end.status == "failed"
    assert end.reason == "ValueError: no such layer"
    assert len(sweep.retries) == 0


def test_storage_that_is_away_is_given_time(sweep: Sweep) -> None:
    assert isinstance(sweep.fail(TimeoutError("no answer")), TrialRetried)
    assert sweep.retries.take() is None
    sweep.now = 5.0
    assert sweep.retries.take() is sweep.record.trials[NAME]
    sweep.fail(TimeoutError("no answer"))
    sweep.now = 24.9
    assert sweep.retries.take() is None
    sweep.now = 25.0
    assert sweep.retries.take() is sweep.record.trials[NAME]


def test_a_trial_that_dies_while_the_sweep_ends_is_left_to_a_resume(sweep: Sweep) -> None:
    sweep.stopper.interrupt("SIGTERM")
    end = sweep.fail(WorkerCrashedError())
    assert isinstance(end, TrialEnded)
    assert (end.status, end.reason) == ("interrupted", "interrupted by SIGTERM")
    assert len(sweep.retries) == 0


def test_a_trial_that_is_silent_for_too_long_is_killed_and_tried_again(sweep: Sweep) -> None:
    trial = sweep.attempt(WorkerCrashedError())
    sweep.events.on_trial_start(0, [], trial)
    for sweep.now in (3.0, 7.0):
        sweep.events.on_trial_result(0, [], trial, {})
        sweep.events.on_step_end(0, [])
    assert sweep.killed == []
    sweep.now = 12.0
    sweep.events.on_step_end(0, [])
    sweep.now = 20.0
    sweep.events.on_step_end(0, [])
    assert sweep.killed == [trial]
    sweep.events.on_trial_error(0, [], trial)
    event = sweep.emitted[-1]
    assert isinstance(event, TrialRetried) and event.is_counted
    assert event.reason == "it hung: no report for 5 s (trial_timeout), so it was killed"


def test_a_group_that_waits_for_its_places_does_not_hang(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, of_groups=True)
    trial = sweep.attempt(WorkerCrashedError())
    sweep.events.on_trial_start(0, [], trial)
    sweep.now = 100.0
    sweep.events.on_step_end(0, [])
    assert sweep.killed == []
    sweep.events.on_trial_result(0, [], trial, {})
    sweep.now = 106.0
    sweep.events.on_step_end(0, [])
    assert sweep.killed == [trial]


def test_a_full_disk_is_the_whole_sentence_and_ends_the_sweep(sweep: Sweep) -> None:
    sentence = "/runs/x cannot be written: its disk is full, 0 B free"
    end = sweep.fail(DiskFullError(28, sentence))
    assert isinstance(end, TrialEnded)
    assert end.reason == f"DiskFullError: {sentence}"
    assert sweep.stopper.stop_all()
    advice = f"{NAME} found the disk full; make room, then resume the sweep"
    assert (sweep.stopper.status, sweep.stopper.reason) == ("failed", advice)
