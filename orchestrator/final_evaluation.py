"""The final evaluation of a sweep's points, after the search: actors with resources of their own.

An actor evaluates one point after another, so that its imports and data stay warm. One that failed is
not used again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from orchestrator.events import PointEvaluated
from orchestrator.failures import describe_failure, kind_of
from orchestrator.paths import SweepPaths
from orchestrator.retention import Key
from orchestrator.retries import RetryQueue, judge, words
from orchestrator.settings import SweepSettings
from trainables.places import Place

_LOOK_EVERY_S = 0.5
_GPUS = "evaluation.gpus"


class _Evaluator:
    """Evaluates snapshots in a process of its own."""

    def __init__(self, cpus: int, gpus: float) -> None:
        self._cpus, self._gpus = cpus, gpus

    def evaluate(self, snapshot: Place, folder: Place) -> dict[str, float]:
        import torch

        from trainables.evaluation import evaluate_snapshot
        from trainables.gpu_share import keeps_to_share, require_gpu

        torch.set_num_threads(self._cpus)
        if self._gpus:
            require_gpu(_GPUS)
        if isinstance(snapshot, Path) and not snapshot.is_dir():
            raise FileNotFoundError(f"{snapshot} is not there; is its storage away?")
        device = "cuda" if self._gpus else "cpu"  # Ray hides no GPU from a process that asked for none
        with keeps_to_share(self._gpus, torch.device(device), _GPUS):
            return evaluate_snapshot(snapshot, folder, device=device)


@dataclass
class _Work:
    """What one actor is at.

    Attributes:
        actor: an `_Evaluator`.
        key: of the point.
        awaited: the actor's start, then the point's metrics.
        begun: when the evaluation did, in seconds that only grow; None while the actor starts, which
            may have to wait for its place.
    """

    actor: Any
    key: Key
    awaited: ray.ObjectRef
    begun: float | None = None


class _Evaluations:
    """Evaluates points, each until it is done or has failed for good.

    Args:
        paths: of the sweep.
        settings: of the sweep.
        tell: takes a sentence for each that is tried again.
    """

    def __init__(self, paths: SweepPaths, settings: SweepSettings, tell: Callable[[str], None]) -> None:
        self._paths = paths
        self._timeout_s = settings.evaluation.timeout
        self._max_retries = settings.max_retries
        self._num_retries = Counter[Key]()
        self._waiting: RetryQueue[Key] = RetryQueue()
        self._running: list[_Work] = []
        self._tell = tell
        resources = settings.evaluation_resources
        self._per_actor = resources.cpus, resources.gpus
        remote: Any = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus)
        self._actors = remote(_Evaluator)

    def __len__(self) -> int:
        """Points that are left."""
        return len(self._waiting) + len(self._running)

    def add(self, key: Key) -> None:
        self._waiting.put(key, 0.0)

    def start(self, max_concurrent: int) -> None:
        """Starts actors for points that wait, as far as there is room; one also where there is none, for
        which a cluster that grows by itself makes room.
        """
        while len(self._running) < max(max_concurrent, 1):
            key = self._waiting.take()
            if key is None:
                return
            actor = self._actors.remote(*self._per_actor)
            self._running.append(_Work(actor, key, actor.__ray_ready__.remote()))

    def step(self) -> Iterator[PointEvaluated]:
        """Waits a moment, and yields what is over."""
        if not self._running:  # all wait: for room, or for storage to come back
            time.sleep(_LOOK_EVERY_S)
            return
        awaited = [work.awaited for work in self._running]
        ray.wait(awaited, timeout=_LOOK_EVERY_S)
        done, _ = ray.wait(awaited, num_returns=len(awaited), timeout=0)  # all that are over by now
        for work in list(self._running):
            if work.awaited in done:
                yield from self._go_on(work)
            elif self._hangs(work):
                self._end(work)
                reason = f"it hung: no result for {self._timeout_s:g} s (evaluation.timeout)"
                yield from self._fail(work.key, "lost", f"{reason}, so it was killed", "")

    def close(self) -> None:
        """Ends all that run."""
        for work in list(self._running):
            self._end(work)

    def _hangs(self, work: _Work) -> bool:
        if self._timeout_s is None or work.begun is None:
            return False
        return time.monotonic() - work.begun >= self._timeout_s

    def _go_on(self, work: _Work) -> Iterator[PointEvaluated]:
        """With a point whose actor has started, failed, or evaluated it."""
        try:
            metrics = ray.get(work.awaited)
        except RayError as error:
            self._end(work)
            yield from self._fail(work.key, kind_of(error), *describe_failure(str(error)))
            return
        if work.begun is None:
            self._begin(work)
            return
        yield PointEvaluated(*work.key, metrics, time.time())
        following = self._waiting.take()
        if following is None:
            self._running.remove(work)  # with the last reference to the actor it ends
        else:
            work.key = following
            self._begin(work)

    def _begin(self, work: _Work) -> None:
        folders = self._paths.snapshot(*work.key), self._paths.evaluation(*work.key)
        work.awaited, work.begun = work.actor.evaluate.remote(*folders), time.monotonic()

    def _end(self, work: _Work) -> None:
        self._running.remove(work)
        ray.kill(work.actor)

    def _fail(self, key: Key, kind: str, reason: str, details: str) -> Iterator[PointEvaluated]:
        """An attempt failed: there is another one, or the failure is the point's result."""
        verdict = judge(kind, self._num_retries[key], self._max_retries)
        if not verdict.is_retried:
            yield PointEvaluated(*key, {}, time.time(), reason, details)
            return
        self._num_retries[key] += verdict.is_counted
        count = words(verdict.is_counted, self._num_retries[key])
        trial, epoch = key
        self._tell(f"{trial}, epoch {epoch}: {reason}; it is evaluated again ({count})")
        self._waiting.put(key, verdict.pause_s)


def evaluate_points(
    keys: Sequence[Key],
    paths: SweepPaths,
    settings: SweepSettings,
    max_concurrent: Callable[[], int],
    should_stop: Callable[[], bool],
    tell: Callable[[str], None],
) -> Iterator[PointEvaluated]:
    """Evaluates the snapshots of `keys` and yields each as it is done; ends early once `should_stop`.

    Args:
        keys: of the points.
        paths: of the sweep.
        settings: of the sweep.
        max_concurrent: says how many fit at once, now.
        should_stop: says whether the rest is no longer wanted.
        tell: takes a sentence for each that is evaluated again.
    """
    evaluations = _Evaluations(paths, settings, tell)
    for key in keys:
        evaluations.add(key)
    try:
        while len(evaluations) and not should_stop():
            evaluations.start(max_concurrent())
            yield from evaluations.step()
    finally:
        evaluations.close()
