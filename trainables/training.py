"""fit(): one training from its configuration to its last validation. Knows nothing of who listens.

Warm-up of the head, main phase with differential learning rates, early stopping (paper, section 3.3 and
appendix A); each epoch of both phases can be the last before a kill, see `trainables.checkpoint`.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

from trainables.batches import Batch, Batches
from trainables.checkpoint import CheckpointError, CheckpointFile, Keeper, PhaseName
from trainables.config import TrialConfig
from trainables.data import Dataset, Part, load_dataset
from trainables.distributed import SINGLE, WorkerGroup
from trainables.execution import (
    Placed,
    choose_device,
    cudnn_choices,
    deterministic_algorithms,
    place_model,
    replicate,
)
from trainables.images import Subset
from trainables.losses import SupConLoss, supcon_loss
from trainables.models import Embedder
from trainables.randomness import derive_seed, generator
from trainables.reports import SELECTED_BY, TRAINING_METRICS, DivergedError, EpochReport
from trainables.sentences import SentencePairs, Sentences
from trainables.validation import Validation, validate

Listener = Callable[[Validation], None]


class TrainingEpoch(NamedTuple):
    """Means over an epoch's views, and its wall time."""

    loss: float
    no_positive_share: float
    time_s: float

    def metrics(self) -> dict[str, float]:
        """The TRAINING_METRICS of the epoch."""
        values = (self.loss, self.no_positive_share, self.time_s)
        return dict(zip(TRAINING_METRICS, values, strict=True))


class _Phase(NamedTuple):
    """What the epochs of a phase work with.

    Attributes:
        name: phases draw from streams of their own.
        num_epochs: its length, and T_max of its cosine.
        placed: the model, with what is trained in this phase.
    """

    name: PhaseName
    num_epochs: int
    placed: Placed
    optimizer: AdamW
    schedule: CosineAnnealingLR
    batches: Batches


def fit(
    config: TrialConfig,
    listener: Listener,
    group: WorkerGroup = SINGLE,
    checkpoint: CheckpointFile | None = None,
) -> None:
    """Trains the model of `config` and calls `listener` after every validation.

    With a group of several workers all of them call this with the same configuration; the global
    batch is `config.batch_size` whatever their number.

    Where `checkpoint` is there, the training goes on from it and is, on a CPU, bit for bit the one that
    was never killed; epochs after it are trained and told again. One that is damaged, or another
    training's, is set aside with a warning, and the training starts from its beginning.

    Raises:
        DivergedError: the loss became NaN or infinite.
        OSError: the checkpoint cannot be written, and the one before it stays; or it can neither be
            used nor set aside.
    """
    device = choose_device(config)
    dataset = load_dataset(config, device)
    fault = ""
    try:
        _fit(config, device, dataset, listener, group, checkpoint)
    except CheckpointError as error:  # by every worker, before its first epoch
        fault = str(error)
    if fault:
        assert checkpoint is not None
        checkpoint.set_aside(fault, group)
        _fit(config, device, dataset, listener, group, checkpoint)


def _fit(
    config: TrialConfig,
    device: torch.device,
    dataset: Dataset,
    listener: Listener,
    group: WorkerGroup,
    checkpoint: CheckpointFile | None,
) -> None:
    keeper = Keeper(config, checkpoint, group)
    with cudnn_choices(config):
        placed = place_model(config, device, group)
        if keeper.progress.phase == "warm-up":
            _warm_up_head(config, placed, dataset.training, group, keeper)
        _train(config, placed, dataset, group, keeper, listener)


def _warm_up_head(
    config: TrialConfig, placed: Placed, data: Part, group: WorkerGroup, keeper: Keeper
) -> None:
    """Trains the head alone; the encoder's weights rest, its BatchNorm statistics move."""
    if config.head.kind == "none" or config.warmup.epochs == 0:
        return
    encoder, head = placed.model.encoder, placed.model.head
    encoder.requires_grad_(False)
    optimizer = AdamW(
        head.parameters(),
        lr=config.warmup.head_lr,
        weight_decay=config.optimizer.weight_decay,
        fused=True,
    )
    phase = _make_phase("warm-up", config, placed, optimizer, data, group)
    for _ in _epochs(config, phase, group, keeper):
        pass
    encoder.requires_grad_(True)


def _train(
    config: TrialConfig,
    placed: Placed,
    dataset: Dataset,
    group: WorkerGroup,
    keeper: Keeper,
    listener: Listener,
) -> None:
    optimizer = main_optimizer(config, placed.model)
    phase = _make_phase("main", config, placed, optimizer, dataset.training, group)
    progress = keeper.progress
    for epoch, training in _epochs(config, phase, group, keeper):
        progress.unreported[epoch] = training.metrics()
        if epoch % config.validate_every and epoch != config.epochs:
            continue
        result = validate(placed.model, dataset, group)
        metrics = group.broadcast(result.metrics)
        if not all(math.isfinite(value) for value in metrics.values()):
            raise DivergedError(epoch, "main")  # after the broadcast, so by every worker
        report = EpochReport(epoch, {**metrics, **training.metrics()}, progress.unreported)
        progress.reports.append(report)
        progress.unreported = {}
        listener(Validation(report, placed.model, dataset, result.gallery, result.queries))
        del result  # the outputs for all images would stay through the next epochs
        if is_patience_exhausted(progress.reports, config.patience_epochs, SELECTED_BY[config.task]):
            return


def is_patience_exhausted(
    reports: Sequence[EpochReport], patience_epochs: int | None, metric: str
) -> bool:
    """Early stopping on a metric that no longer rises (paper, appendix A).

    True once `patience_epochs` have passed from the first report of its best value to the last
    report; never where it is None.
    """
    best = max(reports, key=lambda report: report.metrics[metric])
    return patience_epochs is not None and reports[-1].epoch - best.epoch >= patience_epochs


def _make_phase(
    name: PhaseName,
    config: TrialConfig,
    placed: Placed,
    optimizer: AdamW,
    data: Part,
    group: WorkerGroup,
) -> _Phase:
    """To be called once it is set which parameters are trained."""
    num_epochs = config.warmup.epochs if name == "warm-up" else config.epochs
    return _Phase(
        name,
        num_epochs,
        replicate(config, placed, group),
        optimizer,
        CosineAnnealingLR(optimizer, T_max=num_epochs),
        Batches(config, data, name, group),
    )


def _epochs(
    config: TrialConfig, phase: _Phase, group: WorkerGroup, keeper: Keeper
) -> Iterator[tuple[int, TrainingEpoch]]:
    """Trains the epochs of a phase that are left; yields each one's number and result."""
    parts = {
        "model": phase.placed.model,
        "optimizer": phase.optimizer,
        "schedule": phase.schedule,
        "batches": phase.batches,
    }
    for epoch in keeper.epochs(phase.name, phase.num_epochs, parts):
        with _dropout_stream(config, phase, epoch, group):
            training = train_epoch(config, phase.placed, phase.optimizer, phase.batches, group)
        if not math.isfinite(training.loss):
            raise DivergedError(epoch, phase.name)
        phase.schedule.step()
        yield epoch, training


@contextlib.contextmanager
def _dropout_stream(
    config: TrialConfig, phase: _Phase, epoch: int, group: WorkerGroup
) -> Iterator[None]:
    """Has dropout, which draws from torch's own generators, draw what belongs to this epoch alone, so
    that a training that is resumed goes on as it would have; the caller's generators are untouched.
    """
    device = phase.batches.device
    purpose = f"{phase.name} dropout, epoch {epoch}, worker {group.rank}"
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(derive_seed(config.seed, purpose))
        yield


def main_optimizer(config: TrialConfig, model: Embedder) -> AdamW:
    """AdamW over encoder and head, each at its own learning rate."""
    groups = [
        {"params": list(model.encoder.parameters()), "lr": config.optimizer.encoder_lr},
        {"params": list(model.head.parameters()), "lr": config.optimizer.head_lr},
    ]
    return AdamW(
        [group for group in groups if group["params"]],
        weight_decay=config.optimizer.weight_decay,
        fused=True,
    )


def train_epoch(
    config: TrialConfig, placed: Placed, optimizer: AdamW, batches: Batches, group: WorkerGroup
) -> TrainingEpoch:
    """One pass over the data; the loss is read from the device once, at its end."""
    started = time.perf_counter()
    placed.model.train()
    totals: Tensor | float = 0.0
    for batch in batches.epoch():
        # Around the step alone: augmentation counts in integers, which repeat in any order.
        with deterministic_algorithms(config.deterministic):
            result = train_step(config, placed, optimizer, batch, group)
        totals += torch.stack([result.loss.detach(), result.no_positive_share]) * batch.size
    assert isinstance(totals, Tensor)
    loss, no_positive_share = (group.sum(totals) / batches.num_views).tolist()
    return TrainingEpoch(loss, no_positive_share, time.perf_counter() - started)


def train_step(
    config: TrialConfig, placed: Placed, optimizer: AdamW, batch: Batch, group: WorkerGroup
) -> SupConLoss:
    """One optimizer step; nothing in it waits for the device."""
    if config.compile:  # else it would import the compiler, which takes seconds
        torch.compiler.cudagraph_mark_step_begin()
    embeddings = placed.replica(batch.items)
    result = supcon_loss(embeddings, batch.labels, config.temperature, group, batch.size)
    optimizer.zero_grad(set_to_none=True)
    # Data-parallel training averages the workers' gradients; the loss is their sum.
    (result.loss * group.size).backward()
    parameters = [p for g in optimizer.param_groups for p in g["params"]]
    nn.utils.clip_grad_norm_(parameters, config.optimizer.clip_norm)
    optimizer.step()
    return result


def time_step(config: TrialConfig, num_steps: int = 2, num_items: int = 32) -> float:
    """Seconds a training step takes on one thread, after one step to warm up.

    Needs neither the data nor the encoder's weights: measured on a few random items, and scaled to the
    whole batch.
    """
    num_items = min(num_items, config.batch_size)
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        device = choose_device(config)
        small = config.model_copy(update={"batch_size": num_items, "compile": False})
        placed = place_model(small, device, with_initial_weights=False)
        optimizer = main_optimizer(config, placed.model)
        data = _random_part(config, num_items).to(device)
        batches = Batches(config, data, "main", SINGLE)
        times = [
            train_epoch(config, placed, optimizer, batches, SINGLE).time_s for _ in range(1 + num_steps)
        ]
    finally:
        torch.set_num_threads(num_threads)
    return min(times[1:]) * config.batch_size / num_items


def _random_part(config: TrialConfig, num_items: int) -> Part:
    """As many items as asked for; of sentences pairs, about as long as SNLI's."""
    if config.item_shape is not None:
        images = torch.randint(0, 256, (num_items, *config.item_shape), dtype=torch.uint8)
        return Subset(images, torch.arange(num_items) % 2)
    draw = generator(config.seed, "random sentences")
    lengths = torch.randint(6, 22, (2 * num_items,), generator=draw)
    ends = lengths.cumsum(0)
    tokens = torch.randint(1000, 30_000, (int(ends[-1]),), generator=draw, dtype=torch.int32)
    rows = torch.arange(num_items)
    return SentencePairs(Sentences(tokens, ends - lengths, lengths, 0), rows, rows + num_items)
