"""The loop that evaluates points, on a Ray that is a table of what each attempt comes to.

`tests/e2e/test_final_evaluation.py` has the real one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import RayTaskError
from ray_errors import PREEMPTED, died, raised
from sweep_events import settings_of

from orchestrator import final_evaluation, retries
from orchestrator.events import PointEvaluated
from orchestrator.final_evaluation import _Evaluator, evaluate_points
from orchestrator.paths import SweepPaths
from orchestrator.retention import Key

KEYS = [("trial-0000", 3), ("trial-0000", 6), ("trial-0001", 3)]
METRICS = {"test_d_eff": 8.0}
HANGS = None
TAKES_S, STARTS_S = 2.0, 5.0


@dataclass
class Reference:
    """What an actor was asked for; done at a time, or never."""

    actor: Actor
    done_s: float
    outcome: Any


@dataclass
class Actor:
    """An evaluator with its number."""

    ray: TableRay
    number: int
    evaluated: list[Key] = field(default_factory=list)

    def __post_init__(self) -> None:
        start = Reference(self, self.ray.now + STARTS_S, None)
        self.__ray_ready__ = SimpleNamespace(remote=lambda: start)
        self.evaluate = SimpleNamespace(remote=self._evaluate)

    def _evaluate(self, snapshot: Path, folder: Path) -> Reference:
        key = (snapshot.parent.name, int(snapshot.name.removeprefix("epoch-")))
        outcomes = self.ray.outcomes.get(key)
        outcome = outcomes.pop(0) if outcomes else METRICS
        self.evaluated.append(key)
        self.ray.begun.append((self.ray.now, key))
        return Reference(self, float("inf") if outcome is HANGS else self.ray.now + TAKES_S, outcome)


class TableRay:
    """Comes with a clock that a look moves on by a second, unless it may not wait."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.outcomes: dict[Key, list[Any]] = {}
        self.actors: list[Actor] = []
        self.killed: list[int] = []
        self.begun: list[tuple[float, Key]] = []
        self._numbers = count()
        clock = SimpleNamespace(monotonic=lambda: self.now, time=lambda: self.now, sleep=self._sleep)
        patch.setattr(final_evaluation, "ray", self)
        patch.setattr(final_evaluation, "time", clock)
        queue = retries.RetryQueue
        patch.setattr(final_evaluation, "RetryQueue", lambda: queue(lambda: self.now))

    def remote(self, **_: float) -> Callable[[type], Any]:
        def make(*_: Any) -> Actor:
            self.actors.append(Actor(self, next(self._numbers)))
            return self.actors[-1]

        return lambda _: SimpleNamespace(remote=make)

    def wait(
        self, references: Sequence[Reference], timeout: float, num_returns: int = 1
    ) -> tuple[list[Reference], None]:
        self._sleep(timeout)
        return [r for r in references if r.done_s <= self.now][:num_returns], None

    def get(self, reference: Reference) -> Any:
        if isinstance(reference.outcome, Exception):
            raise reference.outcome
        return reference.outcome

    def kill(self, actor: Actor) -> None:
        self.killed.append(actor.number)

    def _sleep(self, timeout: float) -> None:
        self.now += 1.0 if timeout else 0.0
        assert self.now < 1000, "it never ends"


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> TableRay:
    return TableRay(monkeypatch)


@dataclass
class Told:
    """What an evaluation of KEYS said."""

    events: list[PointEvaluated]
    sentences: list[str]

    @property
    def evaluated(self) -> list[Key]:
        return [(event.trial, event.epoch) for event in self.events if event.metrics == METRICS]


def evaluate(
    *,
    room: Callable[[], int] = lambda: 1,
    should_stop: Callable[[], bool] = lambda: False,
    **settings: Any,
) -> Told:
    told: list[str] = []
    points = evaluate_points(
        KEYS, SweepPaths(Path("runs/it")), settings_of(**settings), room, should_stop, told.append
    )
    return Told(list(points), told)


def test_one_process_evaluates_point_after_point(ray: TableRay) -> None:
    told = evaluate()
    assert told.evaluated == KEYS
    assert told.sentences == []
    assert [actor.evaluated for actor in ray.actors] == [KEYS]
    assert ray.killed == []


def test_as_many_at_once_as_there_is_room(ray: TableRay) -> None:
    told = evaluate(room=lambda: 2)
    assert sorted(told.evaluated) == KEYS
    assert [len(actor.evaluated) for actor in ray.actors] == [2, 1]


def test_without_room_one_asks_the_cluster_for_it(ray: TableRay) -> None:
    told = evaluate(room=lambda: 0)
    assert told.evaluated == KEYS
    assert len(ray.actors) == 1


def test_one_whose_process_died_is_evaluated_again_in_another(ray: TableRay) -> None:
    ray.outcomes = {KEYS[0]: [died(), died(), METRICS]}
    told = evaluate(max_retries=2)
    assert sorted(told.evaluated) == KEYS
    assert [(event.reason, event.metrics) for event in told.events] == [("", METRICS)] * 3
    assert len(ray.actors) == 3
    assert len(told.sentences) == 2
    assert told.sentences[0].startswith("trial-0000, epoch 3: ")
    assert told.sentences[1].endswith("it is evaluated again (retry 2)")


def test_one_whose_process_dies_once_too_often_failed(ray: TableRay) -> None:
    ray.outcomes = {KEYS[1]: [died()] * 9}
    told = evaluate(max_retries=2)
    assert told.evaluated == [KEYS[0], KEYS[2]]
    (failed,) = [event for event in told.events if event.reason]
    assert (failed.trial, failed.epoch) == KEYS[1]
    assert len(told.sentences) == 2
    assert [key for _, key in ray.begun].count(KEYS[1]) == 3


def test_the_loss_of_a_preempted_node_does_not_count(ray: TableRay) -> None:
    ray.outcomes = {KEYS[0]: [died(PREEMPTED), METRICS]}
    told = evaluate(max_retries=0)
    assert sorted(told.evaluated) == KEYS
    assert told.sentences[0].endswith("it is evaluated again (not counted as a retry)")


def test_what_it_raises_itself_is_its_result(ray: TableRay) -> None:
    ray.outcomes = {KEYS[0]: [raised(ValueError("these are no weights"))]}
    told = evaluate()
    assert told.evaluated == KEYS[1:]
    assert told.events[0].reason == "ValueError: these are no weights"
    assert "Traceback" in told.events[0].details
    assert ray.killed == [0]  # its process is not used again
    assert told.sentences == []


def test_storage_that_is_away_is_given_time(ray: TableRay) -> None:
    away: RayTaskError = raised(FileNotFoundError("it is not there"))
    ray.outcomes = {KEYS[2]: [away, away, METRICS]}
    told = evaluate()
    assert told.evaluated == KEYS
    first, second, third = (moment for moment, key in ray.begun if key == KEYS[2])
    assert second - first >= TAKES_S + 5
    assert third - second >= TAKES_S + 20


def test_one_that_hangs_is_killed_and_evaluated_again(ray: TableRay) -> None:
    ray.outcomes = {KEYS[0]: [HANGS, METRICS]}
    told = evaluate(evaluation={"timeout": "30s"})
    assert sorted(told.evaluated) == KEYS
    assert ray.killed == [0]
    hung = "it hung: no result for 30 s (evaluation.timeout), so it was killed"
    assert told.sentences == [f"trial-0000, epoch 3: {hung}; it is evaluated again (retry 1)"]


def test_one_that_is_over_does_not_hang_however_late_one_looks(ray: TableRay) -> None:
    settings = settings_of(evaluation={"timeout": "30s"})
    told: list[str] = []
    points = evaluate_points(
        KEYS, SweepPaths(Path("runs/it")), settings, lambda: 3, lambda: False, told.append
    )
    events = [next(points)]
    ray.now += 100  # the driver was held up by something else
    events += points
    assert sorted((event.trial, event.epoch) for event in events) == KEYS
    assert told == []


def test_one_that_hangs_once_too_often_failed(ray: TableRay) -> None:
    ray.outcomes = {KEYS[0]: [HANGS]}
    told = evaluate(evaluation={"timeout": "30s"}, max_retries=0)
    assert told.evaluated == KEYS[1:]
    assert told.events[0].reason.startswith("it hung: no result for 30 s")


def test_the_wait_for_a_place_is_not_one_that_hangs(ray: TableRay) -> None:
    told = evaluate(evaluation={"timeout": f"{TAKES_S + 1:g}s"})
    assert STARTS_S > TAKES_S + 1
    assert told.evaluated == KEYS and told.sentences == []


def test_a_stop_ends_all_that_run(ray: TableRay) -> None:
    ray.outcomes = {KEYS[1]: [HANGS]}
    told = evaluate(room=lambda: 3, should_stop=lambda: ray.now >= 20)
    assert len(told.evaluated) == 2
    assert ray.killed == [1]


def test_a_snapshot_that_is_not_there_is_storage_that_is_away(tmp_path: Path) -> None:
    snapshot = tmp_path / "trial-0000" / "epoch-0003"
    with pytest.raises(FileNotFoundError, match=f"{snapshot} is not there; is its storage away"):
        _Evaluator(1, 0).evaluate(snapshot, tmp_path / "evaluations")
