"""The final evaluation of a sweep's points: Ray tasks with their own resources, after the search."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import ray
from ray.exceptions import RayError

from orchestrator.events import PointEvaluated
from orchestrator.failures import describe_failure
from orchestrator.paths import SweepPaths
from orchestrator.retention import Key
from orchestrator.settings import ResourceSettings
from trainables.places import Place

_LOOK_EVERY_S = 0.5


def evaluate_points(
    keys: Sequence[Key],
    paths: SweepPaths,
    resources: ResourceSettings,
    max_retries: int,
    should_stop: Callable[[], bool],
) -> Iterator[PointEvaluated]:
    """Evaluates the snapshots of `keys` and yields each as it is done; ends early once `should_stop`."""
    task = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=max_retries)(
        _evaluate
    )
    queue = list(reversed(keys))
    waiting: dict[ray.ObjectRef, Key] = {}
    while queue or waiting:
        while queue and len(waiting) < (resources.max_concurrent or len(keys)):
            key = queue.pop()
            folders = paths.snapshot(*key), paths.evaluation(*key)
            waiting[task.remote(*folders, resources.cpus, resources.gpus)] = key
        if should_stop():
            for reference in waiting:
                ray.cancel(reference, force=True)
            return
        done, _ = ray.wait(list(waiting), timeout=_LOOK_EVERY_S)
        for reference in done:
            trial, epoch = waiting.pop(reference)
            try:
                yield PointEvaluated(trial, epoch, ray.get(reference), time.time())
            except RayError as error:
                reason, details = describe_failure(str(error))
                yield PointEvaluated(trial, epoch, {}, time.time(), reason, details)


def _evaluate(snapshot: Place, folder: Place, cpus: int, gpus: float) -> dict[str, float]:
    import torch

    from trainables.evaluation import evaluate_snapshot
    from trainables.gpu_share import keeps_to_share, require_gpu

    torch.set_num_threads(cpus)
    if gpus:
        require_gpu()
    device = "cuda" if gpus else "cpu"  # Ray hides no GPU from a task that asked for none
    with keeps_to_share(gpus, torch.device(device)):
        return evaluate_snapshot(snapshot, folder, device=device)
