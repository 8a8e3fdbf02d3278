"""What every worker of a group computes in the tests of `trainables.distributed`.

Imported by the workers' own processes, hence apart from the tests.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from short_trials import fit_reports, short_trial
from torch import Tensor
from torch.optim import AdamW

from trainables.batches import Batches
from trainables.config import DataConfig, HeadConfig, OptimizerConfig, WarmupConfig
from trainables.distributed import SINGLE, WorkerGroup
from trainables.execution import Placed
from trainables.images import Dataset, Subset, load_images
from trainables.losses import supcon_loss
from trainables.models import Embedder, build_model
from trainables.reports import EpochReport
from trainables.training import train_epoch
from trainables.validation import embed, validate

BATCHES = (16, 7, 2)
"""Sizes of the global batches: 7 items are uneven for 2 and for 3 workers, and of 2 items the third
worker has none (their loss is 0 by Eq. 1)."""

FIT_CONFIG = short_trial(
    head=HeadConfig(kind="mlp"), warmup=WarmupConfig(epochs=1), epochs=2, batch_size=256
)


@dataclass(frozen=True)
class GroupResult:
    """What one worker found.

    Attributes:
        losses, lonely: of each global batch, summed over the workers.
        gradients: of each global batch, by parameter.
        local_gradients: the same where every worker contrasts its own share only.
        statistics: BatchNorm's buffers after all batches.
        embeddings, metrics: of the model in evaluation mode.
        reports: of a short training.
        steps: how far an epoch moves each parameter in float64.
        place: rank, size, the sum of rank + 1 over the workers, worker 0's rank.
        gathered, gathered_gradient: of the share's rows of arange(7), weighted by rank + 1.
    """

    losses: list[float]
    lonely: list[float]
    gradients: list[dict[str, Tensor]]
    local_gradients: dict[str, Tensor]
    statistics: dict[str, Tensor]
    embeddings: Tensor
    metrics: dict[str, float]
    reports: list[EpochReport]
    steps: dict[str, Tensor]
    place: tuple[int, int, float, int]
    gathered: Tensor
    gathered_gradient: Tensor


def group_work(group: WorkerGroup) -> GroupResult:
    digits = load_images("digits", DataConfig(), torch.device("cpu"))
    dataset = Dataset(*(_head_of(part) for part in (digits.training, digits.validation, digits.test)))
    model = _float64_model(group)
    replica = group.data_parallel(model)
    losses, lonely, gradients = [], [], []
    for batch in torch.arange(sum(BATCHES)).split(list(BATCHES)):
        own = group.share(batch)
        result = supcon_loss(
            replica(dataset.training.items[own]), dataset.training.labels[own], 0.1, group, len(batch)
        )
        model.zero_grad(set_to_none=True)
        (result.loss * group.size).backward()
        gradients.append(_gradients(model))
        losses.append(float(group.sum(result.loss.detach())))
        lonely.append(float(group.sum(result.no_positive_share)))
    statistics = {name: tensor.clone() for name, tensor in model.named_buffers()}
    gathered, gathered_gradient = _weighted_gather(group)
    place = torch.tensor(float(group.rank + 1))
    return GroupResult(
        losses,
        lonely,
        gradients,
        _gradients_without_gather(model, replica, dataset.training, group),
        statistics,
        embed(model, dataset.training, group).embedding,
        group.broadcast(validate(model, dataset, group).metrics),
        fit_reports(FIT_CONFIG, group),
        _steps_of_an_epoch(dataset.training, group),
        (group.rank, group.size, float(group.sum(place)), group.broadcast(group.rank)),
        gathered,
        gathered_gradient,
    )


def _head_of(part: Subset) -> Subset:
    return Subset(part.items[:101].double(), part.labels[:101])


def _gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    return {name: gradient.clone() for name, gradient in found.items() if gradient is not None}


def _gradients_without_gather(
    model: torch.nn.Module, replica: torch.nn.Module, data: Subset, group: WorkerGroup
) -> dict[str, Tensor]:
    model.zero_grad(set_to_none=True)
    own = group.share(torch.arange(BATCHES[0]))
    supcon_loss(replica(data.items[own]), data.labels[own], 0.1, SINGLE).loss.backward()
    return _gradients(model)


def _steps_of_an_epoch(data: Subset, group: WorkerGroup) -> dict[str, Tensor]:
    """A huge eps and no clipping make AdamW's steps proportional to the gradients, scale included."""
    config = short_trial(batch_size=16, optimizer=OptimizerConfig(clip_norm=1e9))
    model = _float64_model(group)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = AdamW(model.parameters(), lr=10.0, eps=1e3, weight_decay=0.0)
    batches = Batches(config, data, "main", group)
    train_epoch(config, Placed(model, group.data_parallel(model)), optimizer, batches, group)
    return {name: parameter.detach() - before[name] for name, parameter in model.named_parameters()}


def _float64_model(group: WorkerGroup) -> Embedder:
    model = build_model(short_trial(seed=1)).double()
    group.synchronize_batch_norm(model)
    return model


def _weighted_gather(group: WorkerGroup) -> tuple[Tensor, Tensor]:
    share = group.share(torch.arange(7.0, dtype=torch.float64)).clone().requires_grad_()
    gathered = group.gather(share, 7)
    (gathered.square() * (group.rank + 1)).sum().backward()
    assert share.grad is not None
    return gathered.detach(), share.grad
