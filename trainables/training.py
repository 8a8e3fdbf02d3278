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

from trainables.batches import Batch, Batches
from trainables.config import DATASET_FACTS, TrialConfig
from trainables.distributed import SINGLE, WorkerGroup
from trainables.execution import (
    Placed,
    choose_device,
    cudnn_choices,
    deterministic_algorithms,
    place_model,
    replicate,
)
from trainables.images import Dataset, Subset, load_dataset
from trainables.losses import SupConLoss, supcon_loss
from trainables.metrics import correlation_rms, effective_dimension, evaluate
from trainables.models import Embedder, Features
from trainables.reports import METRICS, TRAINING_METRICS, DivergedError, EpochReport

_EMBED_ROWS = {"cpu": 64, "cuda": 1024}
"""Items embedded at once: on a CPU few enough for its caches (0.7 ms an image of resnet8, not 1.3)."""


@dataclass(frozen=True)
class Validation:
    """What a listener is given: the report, and the model that it is about.

    Attributes:
        report: the numbers.
        model: as it is now; the next epoch changes it.
        dataset: what it is trained and validated on.
        gallery: the model's outputs for the training set; None on all workers but the first.
        queries: the same for the validation set.
    """

    report: EpochReport
    model: Embedder
    dataset: Dataset
    gallery: Features | None
    queries: Features | None

    @property
    def is_chief(self) -> bool:
        """Whether this is the one worker of its group that should write files."""
        return self.queries is not None


Listener = Callable[[Validation], None]


class TrainingEpoch(NamedTuple):
    """Means over an epoch's views, and its wall time."""

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
    dataset = load_dataset(config.dataset, config.data, device)
    with cudnn_choices(config):
        placed = place_model(config, device, group)
        _warm_up_head(config, placed, dataset.training, group)
        _train(config, placed, dataset, group, listener)


def _warm_up_head(config: TrialConfig, placed: Placed, data: Subset, group: WorkerGroup) -> None:
    """Trains the head alone; the encoder's weights rest, its BatchNorm statistics move."""
    if config.head.kind == "none" or config.warmup.epochs == 0:
        return
    encoder, head = placed.model.encoder, placed.model.head
    encoder.requires_grad_(False)
    placed = replicate(config, placed, group)
    optimizer = AdamW(
        head.parameters(),
        lr=config.warmup.head_lr,
        weight_decay=config.optimizer.weight_decay,
        fused=True,
    )
    schedule = CosineAnnealingLR(optimizer, T_max=config.warmup.epochs)
    batches = Batches(config, data, "warm-up", group)
    for epoch in range(1, config.warmup.epochs + 1):
        epoch_result = train_epoch(config, placed, optimizer, batches, group)
        _require_finite(epoch_result.loss, epoch, "warm-up")
        schedule.step()
    encoder.requires_grad_(True)


def _train(
    config: TrialConfig, placed: Placed, dataset: Dataset, group: WorkerGroup, listener: Listener
) -> None:
    placed = replicate(config, placed, group)
    optimizer = main_optimizer(config, placed.model)
    schedule = CosineAnnealingLR(optimizer, T_max=config.epochs)
    batches = Batches(config, dataset.training, "main", group)
    patience = Patience(config.patience_epochs)
    training: dict[int, dict[str, float]] = {}
    for epoch in range(1, config.epochs + 1):
        epoch_result = train_epoch(config, placed, optimizer, batches, group)
        _require_finite(epoch_result.loss, epoch, "main")
        schedule.step()
        training[epoch] = {
            "train_loss": epoch_result.loss,
            "no_positive_share": epoch_result.no_positive_share,
            "epoch_time_s": epoch_result.time_s,
        }
        if epoch % config.validate_every and epoch != config.epochs:
            continue
        result = validate(placed.model, dataset, group)
        metrics = group.broadcast(result.metrics)
        if not all(math.isfinite(value) for value in metrics.values()):
            raise DivergedError(epoch, "main")  # after the broadcast, so by every worker
        report = EpochReport(epoch, {**metrics, **training[epoch]}, training)
        training = {}
        listener(Validation(report, placed.model, dataset, result.gallery, result.queries))
        del result  # the outputs for all images would stay through the next epochs
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


class ValidationResult(NamedTuple):
    """All metrics, and the outputs for both sets; empty and None but on the first worker."""

    metrics: dict[str, float]
    gallery: Features | None
    queries: Features | None


def validate(model: Embedder, dataset: Dataset, group: WorkerGroup = SINGLE) -> ValidationResult:
    """All metrics of the model as it is: gallery = training set, queries = validation set.

    NaN, all of them, where an output is not finite.
    """
    started = time.perf_counter()
    gallery = embed(model, dataset.training, group)
    queries = embed(model, dataset.validation, group)
    if group.rank:
        return ValidationResult({}, None, None)
    vectors = (gallery.encoded, gallery.projected, queries.encoded, queries.projected)
    if not all(bool(stage.isfinite().all()) for stage in vectors):
        nan = dict.fromkeys(METRICS.keys() - set(TRAINING_METRICS), math.nan)
        return ValidationResult(nan, gallery, queries)
    metrics = evaluate(
        gallery.embedding, dataset.training.labels, queries.embedding, dataset.validation.labels
    )
    metrics["encoder_d_eff"] = effective_dimension(gallery.encoded)
    metrics["unnormalized_d_eff"] = effective_dimension(gallery.projected)
    metrics["correlation_rms"] = correlation_rms(queries.embedding)
    metrics["encoder_correlation_rms"] = correlation_rms(queries.encoded)
    metrics["unnormalized_correlation_rms"] = correlation_rms(queries.projected)
    metrics["validation_time_s"] = time.perf_counter() - started
    return ValidationResult(metrics, gallery, queries)


@torch.no_grad()
def embed(model: Embedder, data: Subset, group: WorkerGroup = SINGLE) -> Features:
    """Encoder output, head output and embedding of every item, in the items' order."""
    model.eval()
    own = group.share(data.items)
    # An empty share still goes through the model once: its columns' number must be known.
    chunks = [model.features(chunk) for chunk in own.split(_EMBED_ROWS[own.device.type])]
    stages: list[Float[Tensor, "item dim"]] = [torch.cat(parts) for parts in zip(*chunks, strict=True)]
    return Features(*(group.gather(stage, len(data)) for stage in stages))


def time_step(config: TrialConfig, num_steps: int = 2, num_items: int = 32) -> float:
    """Seconds a training step takes on one thread, after one step to warm up.

    Needs neither the data nor the encoder's weights: measured on a few random items, and scaled to the
    whole batch.
    """
    num_items = min(num_items, config.batch_size)
    shape = DATASET_FACTS[config.dataset].item_shape
    items = torch.randint(0, 256, (num_items, *shape), dtype=torch.uint8)
    labels = torch.arange(num_items) % 2
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        device = choose_device(config)
        small = {"batch_size": num_items, "encoder_weights": "none", "compile": False}
        placed = place_model(config.model_copy(update=small), device)
        optimizer = main_optimizer(config, placed.model)
        batches = Batches(config, Subset(items, labels).to(device), "main", SINGLE)
        times = [
            train_epoch(config, placed, optimizer, batches, SINGLE).time_s for _ in range(1 + num_steps)
        ]
    finally:
        torch.set_num_threads(num_threads)
    return min(times[1:]) * config.batch_size / num_items
