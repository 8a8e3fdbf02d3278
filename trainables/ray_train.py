"""fit() as a Ray Train trainable inside Ray Tune: the only file here that imports ray.

One call, two lanes. `workers: 0` is Ray Train's local mode: the trial runs in its Tune actor, which
is reused for the next trial, so process, imports and data stay warm. `workers: N` is a real worker
group (several devices, several nodes) started from the Tune actor.

A sweep's driver imports this file and trains nothing, so what needs torch is imported by those who do.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import train, tune
from ray.tune.integration.ray_train import TuneReportCallback

from trainables.config import TrialConfig
from trainables.places import Place, is_url, require_shared
from trainables.reports import EpochReport
from trainables.temporary_folder import temporary_folder

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

    folder: Callable[[str, int], Place]
    trace: Callable[[str, int], Place]
    is_wanted: Callable[[], Callable[[EpochReport], bool]]
    with_embeddings: bool


@dataclass(frozen=True)
class CheckpointRule:
    """Where a trial's checkpoint is, and how often it is written.

    Attributes:
        path: the file, from the trial's name.
        every_s: seconds between two writings; infinite for none.
    """

    path: Callable[[str], Place]
    every_s: float


def make_trainable(
    resources: TrialResources,
    snapshots: SnapshotRule | None,
    checkpoints: CheckpointRule,
    witness: Path | None,
) -> Callable[[dict[str, Any]], None]:
    """The function that Ray Tune runs for each trial, with its resources attached.

    Args:
        resources: of a trial.
        snapshots: None for trials of which only the reports matter.
        checkpoints: where they are.
        witness: a file of the sweep's folder, by which each process sees that it has the same folder;
            None where that is at a URL.
    """

    def train_trial(config: dict[str, Any]) -> None:
        from ray.train.torch import TorchConfig, TorchTrainer

        with _folder_of_group(checkpoints.path(config[NAME_KEY])) as folder:
            TorchTrainer(
                _train_loop,
                train_loop_config={
                    "trial": config[CONFIG_KEY],
                    "name": config[NAME_KEY],
                    "known_epoch": config.get(KNOWN_EPOCH_KEY, 0),
                    "snapshots": snapshots,
                    "checkpoints": checkpoints,
                    "witness": witness,
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
                run_config=_run_config(resources, folder),
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


@contextlib.contextmanager
def _folder_of_group(checkpoint: Place) -> Iterator[str]:
    """Where Ray Train writes for itself what nothing is read from; beside a store the driver's folder
    need not be on this node.
    """
    if not is_url(checkpoint):
        yield tune.get_context().get_trial_dir()
        return
    with temporary_folder() as folder:
        yield str(folder)


def _run_config(resources: TrialResources, folder: str) -> train.RunConfig | None:
    if not resources.workers:
        return None
    return train.RunConfig(
        name=tune.get_context().get_trial_id(),
        storage_path=folder,
        callbacks=[TuneReportCallback()],
    )


def _train_loop(loop: dict[str, Any]) -> None:
    import torch

    from trainables.checkpoint import CheckpointFile
    from trainables.distributed import current_group
    from trainables.execution import choose_device
    from trainables.gpu_share import keeps_to_share, require_gpu
    from trainables.training import fit

    report_to = tune.report if loop["in_tune_process"] else train.report
    if not loop["in_tune_process"]:
        report_to({})  # the group's first word: it may have waited long for its places
    if loop["witness"]:
        require_shared(loop["witness"])
    config = TrialConfig.model_validate(loop["trial"])
    if loop["gpus"] and config.device == "auto":
        require_gpu()
    # Ray hides no GPU from an actor that asked for none.
    on_cpu = config.device == "auto" and not loop["gpus"]
    placed = config.model_copy(update={"device": "cpu"}) if on_cpu else config
    torch.set_num_threads(max(1, loop["cpus"]))

    def send(report: EpochReport) -> None:
        report_to({REPORT_KEY: json.dumps(report.to_dict())})

    rule: CheckpointRule = loop["checkpoints"]
    listener = TrialListener(loop["name"], config, loop["snapshots"], loop["known_epoch"], send)
    checkpoint = CheckpointFile(
        rule.path(loop["name"]),
        rule.every_s,
        listener.take_up,
        warn=lambda text: report_to({WARNING_KEY: text}),
        witness=loop["witness"],
    )
    with keeps_to_share(loop["gpus"], choose_device(placed)):
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
