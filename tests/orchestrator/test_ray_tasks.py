from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator import ray_tasks
from orchestrator.ray_tasks import result_of


class SlowRay:
    """A Ray whose only task is done after so many seconds, looked at once a second."""

    def __init__(self, done_s: float, patch: pytest.MonkeyPatch) -> None:
        self.now, self.done_s = 0.0, done_s
        self.cancelled: list[object] = []
        self.get = lambda task: f"result of {task}"
        self.cancel = lambda task, force: self.cancelled.append((task, force))
        patch.setattr(ray_tasks, "ray", self)
        patch.setattr(ray_tasks, "time", SimpleNamespace(monotonic=lambda: self.now))

    def wait(self, tasks: list[object], timeout: float) -> tuple[list[object], list[object]]:
        self.now += 1
        return (tasks, []) if self.now >= self.done_s else ([], tasks)


TASK: Any = "a task"


@pytest.mark.parametrize(("done_s", "expected"), [(5, []), (60, ["still waiting for data"])])
def test_a_long_wait_is_told_once(
    done_s: float, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    SlowRay(done_s, monkeypatch)
    told: list[str] = []
    assert result_of(TASK, "data", told.append, lambda: False) == "result of a task"
    assert told == expected


def test_a_task_that_is_no_longer_wanted_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = SlowRay(60, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        result_of(TASK, "data", lambda text: None, lambda: ray.now >= 3)
    assert ray.now == 3
    assert ray.cancelled == [(TASK, True)]
