"""fit(): one training from its configuration to its last validation. Knows nothing of who listens.

Warm-up of the head, main phase with differential learning rates, validation, early stopping
(paper, section 3.3 and appendix A).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

from trainables.config import TrialConfig
from trainables.distributed import SINGLE, WorkerGroup
from trainables.images import Dataset, Subset, load_dataset
from trainables.losses import supcon_loss
from trainables.metrics import effective_dimension, evaluate
from trainables.models import Embedder, Features, build_model
from trainables.randomness import generator
from trainables.reports import METRICS, TRAINING_METRICS, DivergedError, EpochReport

_EMBED_ROWS = 1024


@dataclass(frozen=True)
class Validation:
    """What a listener is given: the report, and the model that it is about.

    Attributes:
        report: the numbers.
        model: as it is now; the next epoch changes it.
        dataset: what it is trained and validated on.
        is_chief: whether this is the one worker of its group that should write files.
    """

    report: EpochReport
    model: Embedder
    dataset: Dataset
    is_chief: bool


Listener = Callable[[Validation], None]


class _TrainingEpoch(NamedTuple):
    loss: float
    no_positive_share: float
    time_s: float


def fit(config: TrialConfig, listener: Listener, group: WorkerGroup = SINGLE) -> None:
    """Trains the model of `config` and calls `listener` after every validation.

    With a group of several workers all of them call this with the same configuration; the global
    batch is `config.batch_size` whatever their number.

    Raises:
        DivergedError: the loss became NaN or infinite.
    """
    device = choose_device(config)
    dataset = load_dataset(config.dataset, device)
    model = build_model(config).to(device)
    group.synchronize_batch_norm(model)
    _warm_up_head(config, model, dataset.training, group)
    _train(config, model, dataset, group, listener)


def choose_device(config: TrialConfig) -> torch.device:
    """The device of `config`; "auto" is the first GPU, or the CPU where there is none."""
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(config.device)


def _warm_up_head(config: TrialConfig, model: Embedder, data: Subset, group: WorkerGroup) -> None:
    """Trains the head alone; the encoder's weights rest, its BatchNorm statistics move."""
    if config.head.kind == "none" or config.warmup.epochs == 0:
        return
    model.encoder.requires_grad_(False)
    optimizer = AdamW(
        model.head.parameters(),
        lr=config.warmup.head_lr,
        weight_decay=config.optimizer.weight_decay,
    )
    schedule = CosineAnnealingLR(optimizer, T_max=config.warmup.epochs)
    order = generator(config.seed, "warm-up order")
    replica = group.data_parallel(model)
    for epoch in range(1, config.warmup.epochs + 1):
        epoch_result = _train_epoch(config, replica, optimizer, data, order, group)
        _require_finite(epoch_result.loss, epoch, "warm-up")
        schedule.step()
    model.encoder.requires_grad_(True)


def _train(
    config: TrialConfig, model: Embedder, dataset: Dataset, group: WorkerGroup, listener: Listener
) -> None:
    optimizer = main_optimizer(config, model)
    schedule = CosineAnnealingLR(optimizer, T_max=config.epochs)
    order = generator(config.seed, "order")
    replica = group.data_parallel(model)
    patience = Patience(config.patience_epochs)
    training: dict[int, dict[str, float]] = {}
    for epoch in range(1, config.epochs + 1):
        epoch_result = _train_epoch(config, replica, optimizer, dataset.training, order, group)
        _require_finite(epoch_result.loss, epoch, "main")
        schedule.step()
        training[epoch] = {
            "train_loss": epoch_result.loss,
            "no_positive_share": epoch_result.no_positive_share,
            "epoch_time_s": epoch_result.time_s,
        }
        if epoch % config.validate_every and epoch != config.epochs:
            continue
        metrics = group.broadcast(validate(model, dataset, group))
        if not all(math.isfinite(value) for value in metrics.values()):
            raise DivergedError(epoch, "main")  # after the broadcast, so by every worker
        report = EpochReport(epoch, {**metrics, **training[epoch]}, training)
        training = {}
        listener(Validation(report, model, dataset, is_chief=group.rank == 0))
        if patience.is_exhausted(epoch, metrics["knn_accuracy"]):
            return


def main_optimizer(config: TrialConfig, model: Embedder) -> AdamW:
    """AdamW over encoder and head, each at its own learning rate."""
    groups = [
        {"params": list(model.encoder.parameters()), "lr": config.optimizer.encoder_lr},
        {"params": list(model.head.parameters()), "lr": config.optimizer.head_lr},
    ]
    return AdamW(
        [group for group in groups if group["params"]],
        weight_decay=config.optimizer.weight_decay,
    )


def _train_epoch(
    config: TrialConfig,
    replica: nn.Module,
    optimizer: AdamW,
    data: Subset,
    order: torch.Generator,
    group: WorkerGroup,
) -> _TrainingEpoch:
    """One pass over the data; the loss is read from the device once, at its end."""
    started = time.perf_counter()
    replica.train()
    total_loss = torch.zeros((), device=data.labels.device)
    num_lonely = torch.zeros((), device=data.labels.device)
    rows = torch.randperm(len(data), generator=order).to(data.labels.device)
    for batch in rows.split(config.batch_size):
        own = group.share(batch)
        result = supcon_loss(
            replica(data.items[own]), data.labels[own], config.temperature, group, len(batch)
        )
        optimizer.zero_grad(set_to_none=True)
        # Data-parallel training averages the workers' gradients; the loss is their sum.
        (result.loss * group.size).backward()
        parameters = [p for g in optimizer.param_groups for p in g["params"]]
        nn.utils.clip_grad_norm_(parameters, config.optimizer.clip_norm)
        optimizer.step()
        total_loss += result.loss.detach() * len(batch)
        num_lonely += result.no_positive_share * len(batch)
    totals = group.sum(torch.stack([total_loss, num_lonely])) / len(data)
    loss, no_positive_share = totals.tolist()
    return _TrainingEpoch(loss, no_positive_share, time.perf_counter() - started)


def _require_finite(loss: float, epoch: int, phase: str) -> None:
    if not math.isfinite(loss):
        raise DivergedError(epoch, phase)


class Patience:
    """Early stopping on an accuracy that no longer rises (paper, appendix A)."""

    def __init__(self, epochs: int | None) -> None:
        self.epochs = epochs
        self.best = float("-inf")
        self.best_epoch = 0

    def is_exhausted(self, epoch: int, accuracy: float) -> bool:
        """Takes note of `accuracy`; true once `epochs` have passed without a strictly better one."""
        if accuracy > self.best:
            self.best, self.best_epoch = accuracy, epoch
        return self.epochs is not None and epoch - self.best_epoch >= self.epochs


def validate(model: Embedder, dataset: Dataset, group: WorkerGroup = SINGLE) -> dict[str, float]:
    """All metrics of the model as it is: gallery = training set, queries = validation set.

    NaN, all of them, where an embedding is not finite. Empty on all workers but the first.
    """
    started = time.perf_counter()
    gallery = embed(model, dataset.training, group)
    queries = embed(model, dataset.validation, group)
    if group.rank:
        return {}
    vectors = (gallery.encoded, gallery.projected, queries.projected)
    if not all(bool(stage.isfinite().all()) for stage in vectors):
        return dict.fromkeys(METRICS.keys() - set(TRAINING_METRICS), math.nan)
    metrics = evaluate(
        gallery.embedding, dataset.training.labels, queries.embedding, dataset.validation.labels
    )
    metrics["encoder_d_eff"] = effective_dimension(gallery.encoded)
    metrics["unnormalized_d_eff"] = effective_dimension(gallery.projected)
    metrics["validation_time_s"] = time.perf_counter() - started
    return metrics


@torch.no_grad()
def embed(model: Embedder, data: Subset, group: WorkerGroup = SINGLE) -> Features:
    """Encoder output, head output and embedding of every item, in the items' order."""
    model.eval()
    own = group.share(data.items)
    # An empty share still goes through the model once: its columns' number must be known.
    chunks = [model.features(chunk) for chunk in own.split(_EMBED_ROWS)]
    stages: list[Float[Tensor, "item dim"]] = [torch.cat(parts) for parts in zip(*chunks, strict=True)]
    return Features(*(group.gather(stage, len(data)) for stage in stages))


def time_step(config: TrialConfig, num_steps: int = 3) -> float:
    """Seconds a training step takes on one thread, after one step to warm up."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    device = choose_device(config)
    data = load_dataset(config.dataset, device).training
    model = build_model(config).to(device).train()
    optimizer = main_optimizer(config, model)
    rows = min(len(data), config.batch_size)
    batch = Subset(data.items[:rows], data.labels[:rows])
    order = generator(config.seed, "order")
    try:
        times = [
            _train_epoch(config, model, optimizer, batch, order, SINGLE).time_s
            for _ in range(1 + num_steps)
        ]
    finally:
        torch.set_num_threads(num_threads)
    return min(times[1:])
