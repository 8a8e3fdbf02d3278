"""fit() as a Ray Train trainable inside Ray Tune: the only file here that imports ray.

One call, two lanes. `workers: 0` is Ray Train's local mode: the trial runs in its Tune actor, which
is reused for the next trial, so process, imports and data stay warm. `workers: N` is a real worker
group (several devices, several nodes) started from the Tune actor.

A sweep's driver imports this file and trains nothing, so what needs torch is imported by those who do.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import train, tune
from ray.tune.integration.ray_train import TuneReportCallback

from trainables.config import TrialConfig
from trainables.reports import EpochReport

if TYPE_CHECKING:
    from trainables.validation import Validation

CONFIG_KEY = "trial"
NAME_KEY = "name"
"""Where a Tune configuration holds a trial's settings and its name."""
KNOWN_EPOCH_KEY = "known_epoch"
"""Where it holds the last epoch that the driver has a report of; 0, or nothing, before the first."""
_WAITING_ACTOR_BYTES = 256 * 2**20
REPORT_KEY = "report"
"""Where a Tune result holds the epoch report: as JSON, since Tune would flatten a mapping."""
WARNING_KEY = "warning"
"""Where a Tune result without a report holds a sentence for the user."""


@dataclass(frozen=True)
class TrialResources:
    """What one trial runs on.

    Attributes:
        workers: 0 for the Tune actor itself, N for a group of N workers.
        cpus: CPU cores a worker (of the one process where workers is 0).
        gpus: GPUs a worker; fractions share one GPU between trials where workers is 0.
    """

    workers: int
    cpus: int
    gpus: float


@dataclass(frozen=True)
class SnapshotRule:
    """Where snapshots and traces go and which epochs of a trial are worth one.

    Attributes:
        folder: the folder for a trial's snapshot, from trial name and epoch.
        trace: the file for a trial's trace, from trial name and epoch.
        is_wanted: asked at each validation of a trial, in order; makes a new rule for each trial.
        with_embeddings: whether the embeddings are stored beside the weights.
    """

    folder: Callable[[str, int], Path]
    trace: Callable[[str, int], Path]
    is_wanted: Callable[[], Callable[[EpochReport], bool]]
    with_embeddings: bool


@dataclass(frozen=True)
class CheckpointRule:
    """Where a trial's checkpoint is, and how often it is written.

    Attributes:
        path: the file, from the trial's name.
        every_s: seconds between two writings; infinite for none.
    """

    path: Callable[[str], Path]
    every_s: float


def make_trainable(
    resources: TrialResources, snapshots: SnapshotRule | None, checkpoints: CheckpointRule
) -> Callable[[dict[str, Any]], None]:
    """The function that Ray Tune runs for each trial, with its resources attached.

    Trials of which only the reports matter have no rule for snapshots.
    """

    def train_trial(config: dict[str, Any]) -> None:
        from ray.train.torch import TorchConfig, TorchTrainer

        TorchTrainer(
            _train_loop,
            train_loop_config={
                "trial": config[CONFIG_KEY],
                "name": config[NAME_KEY],
                "known_epoch": config.get(KNOWN_EPOCH_KEY, 0),
                "snapshots": snapshots,
                "checkpoints": checkpoints,
                "cpus": resources.cpus,
                "gpus": resources.gpus,
                "in_tune_process": resources.workers == 0,
            },
            scaling_config=train.ScalingConfig(
                num_workers=resources.workers,
                use_gpu=resources.workers > 0 and resources.gpus > 0,
                resources_per_worker=_resources_of_worker(resources),
            ),
            torch_config=TorchConfig(backend="nccl" if resources.gpus else "gloo"),
            run_config=_run_config(resources),
        ).fit()

    return tune.with_resources(train_trial, _resources_of_tune_actor(resources))


def _resources_of_tune_actor(resources: TrialResources) -> dict[str, float]:
    """Devices are asked for in one place only: a second request could hang a full cluster.

    Above a worker group the actor only waits, but Tune takes no empty request, so it asks for memory.
    """
    if resources.workers:
        return {"memory": _WAITING_ACTOR_BYTES}
    return {"cpu": resources.cpus, "gpu": resources.gpus}


def _resources_of_worker(resources: TrialResources) -> dict[str, float] | None:
    if not resources.workers:
        return None
    return {"CPU": resources.cpus, "GPU": resources.gpus}


def _run_config(resources: TrialResources) -> train.RunConfig | None:
    if not resources.workers:
        return None
    context = tune.get_context()
    return train.RunConfig(
        name=context.get_trial_id(),
        storage_path=context.get_trial_dir(),
        callbacks=[TuneReportCallback()],
    )


def _train_loop(loop: dict[str, Any]) -> None:
    import torch

    from trainables.checkpoint import CheckpointFile
    from trainables.distributed import current_group
    from trainables.training import fit

    config = TrialConfig.model_validate(loop["trial"])
    # Ray hides no GPU from an actor that asked for none.
    on_cpu = config.device == "auto" and not loop["gpus"]
    placed = config.model_copy(update={"device": "cpu"}) if on_cpu else config
    torch.set_num_threads(max(1, loop["cpus"]))
    report_to = tune.report if loop["in_tune_process"] else train.report

    def send(report: EpochReport) -> None:
        report_to({REPORT_KEY: json.dumps(report.to_dict())})

    rule: CheckpointRule = loop["checkpoints"]
    listener = TrialListener(loop["name"], config, loop["snapshots"], loop["known_epoch"], send)
    checkpoint = CheckpointFile(
        rule.path(loop["name"]),
        rule.every_s,
        listener.take_up,
        warn=lambda text: report_to({WARNING_KEY: text}),
    )
    fit(placed, listener, current_group(), checkpoint)


class TrialListener:
    """Stores and sends what a trial yields, each epoch once, also where its training is resumed.

    Args:
        name: the trial's.
        config: the trial's, as the sweep names it.
        rule: what is stored; nothing where it is None.
        known_epoch: reports up to this epoch arrived before, and what belongs to them was stored.
        send: gives a report to the driver.
    """

    def __init__(
        self,
        name: str,
        config: TrialConfig,
        rule: SnapshotRule | None,
        known_epoch: int,
        send: Callable[[EpochReport], None],
    ) -> None:
        self._name = name
        self._config = config
        self._rule = rule
        self._is_wanted = rule.is_wanted() if rule else lambda report: False
        self._known_epoch = known_epoch
        self._send = send

    def __call__(self, validation: Validation) -> None:
        report = validation.report
        # Asked at every report, since the answer depends on the earlier ones.
        is_wanted = self._is_wanted(report)
        if report.epoch <= self._known_epoch:
            return
        if self._rule:
            self._store(self._rule, validation, is_wanted)
        self._send(report)

    def _store(self, rule: SnapshotRule, validation: Validation, is_wanted: bool) -> None:
        from trainables.snapshots import write_snapshot
        from trainables.traces import is_traced, write_trace

        epoch = validation.report.epoch
        if validation.is_chief and is_wanted:
            folder = rule.folder(self._name, epoch)
            write_snapshot(folder, self._config, validation, rule.with_embeddings)
        if validation.queries and is_traced(epoch, self._config.validate_every):
            write_trace(rule.trace(self._name, epoch), validation.queries)

    def take_up(self, report: EpochReport) -> None:
        """Takes in a report of the killed training: what belongs to it is stored, it may not have
        arrived.
        """
        self._is_wanted(report)
        if report.epoch > self._known_epoch:
            self._send(report)
