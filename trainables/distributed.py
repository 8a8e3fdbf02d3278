"""A group of data-parallel workers that together behave as one.

The global batch is split into contiguous shares in one order that does not depend on the number of
workers; embeddings are gathered with their gradient; BatchNorm sees the whole batch. So loss,
gradient and metrics are those of one worker. A group of one does nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, distributed, nn
from torch.autograd.function import FunctionCtx
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class WorkerGroup:
    """This worker's place in its group.

    Attributes:
        rank: from 0.
        size: number of workers. Above 1, `torch.distributed` must be initialised.
    """

    rank: int = 0
    size: int = 1

    def share(self, batch: Tensor) -> Tensor:
        """This worker's contiguous part of a global batch; may be empty."""
        return batch.tensor_split(self.size)[self.rank]

    def gather(self, share: Tensor, total: int) -> Tensor:
        """The global batch of which `share` is this worker's part, with gradient.

        The gradient of a worker's part is the sum of all workers' gradients with respect to it.
        """
        if self.size == 1:
            return share
        gathered: Tensor = _Gather.apply(share, self, total)
        return gathered

    def sum(self, value: Tensor) -> Tensor:
        """The sum of `value` over the workers, without gradient."""
        if self.size > 1:
            value = value.detach().clone()
            distributed.all_reduce(value)
        return value

    def broadcast(self, value: Any) -> Any:
        """Worker 0's value, on every worker."""
        if self.size == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values, src=0)
        return values[0]

    def collect(self, value: Any) -> list[Any]:
        """Every worker's value, by rank, on every worker."""
        values = [value] * self.size
        if self.size > 1:
            distributed.all_gather_object(values, value)
        return values

    def synchronize_batch_norm(self, model: nn.Module) -> nn.Module:
        """Makes every BatchNorm of `model` use the global batch's statistics."""
        if self.size == 1:
            return model
        if next(model.parameters()).is_cuda:
            return nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return _convert_batch_norm(model)

    def data_parallel(self, model: nn.Module) -> nn.Module:
        """A view of `model` whose backward pass averages gradients over the workers.

        A loss that is a sum over the workers is therefore multiplied by `size` before `backward`.
        """
        if self.size == 1:
            return model
        return DistributedDataParallel(model)


SINGLE = WorkerGroup()


def current_group() -> WorkerGroup:
    """The group of `torch.distributed`'s default process group, or SINGLE without one."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return SINGLE
    return WorkerGroup(distributed.get_rank(), distributed.get_world_size())


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, share: Tensor, group: WorkerGroup, total: int) -> Tensor:
        ctx.group = group  # pyright: ignore[reportAttributeAccessIssue]
        largest = -(-total // group.size)
        padded = share.new_zeros(largest, *share.shape[1:])
        padded[: len(share)] = share
        parts = [torch.empty_like(padded) for _ in range(group.size)]
        distributed.all_gather(parts, padded)
        sizes = [len(part) for part in torch.empty(total).tensor_split(group.size)]
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        total = gradients[0].contiguous().clone()
        distributed.all_reduce(total)
        return ctx.group.share(total), None, None


class _AllReduce(torch.autograd.Function):
    """Sum over the workers whose gradient is summed over them too."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        value = value.clone()
        distributed.all_reduce(value)
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor]:
        gradient = gradients[0].contiguous().clone()
        distributed.all_reduce(gradient)
        return (gradient,)


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm over the batches of all workers, on CPU (torch's SyncBatchNorm is for GPUs only)."""

    def forward(self, input: Float[Tensor, "batch channel h w"]) -> Float[Tensor, "batch channel h w"]:
        if not self.training:
            return super().forward(input)
        count = input.new_tensor([input.numel() / input.shape[1]])
        sums: Tensor = _AllReduce.apply(torch.cat([input.sum(dim=(0, 2, 3)), count]))
        n = sums[-1].detach()
        mean = sums[:-1] / n
        centred = input - mean[None, :, None, None]
        square: Tensor = _AllReduce.apply(centred.square().sum(dim=(0, 2, 3)))
        variance = square / n
        self._update_running_statistics(mean.detach(), variance.detach(), n)
        scale = torch.rsqrt(variance + self.eps) * self.weight
        return centred * scale[None, :, None, None] + self.bias[None, :, None, None]

    @torch.no_grad()
    def _update_running_statistics(self, mean: Tensor, variance: Tensor, n: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None
        assert self.momentum is not None and self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * n / (n - 1), self.momentum)


def _convert_batch_norm(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.BatchNorm2d):
        converted = GlobalBatchNorm2d(module.num_features, eps=module.eps, momentum=module.momentum)
        converted.to(next(module.parameters()).dtype)
        converted.load_state_dict(module.state_dict())
        return converted
    for name, child in module.named_children():
        setattr(module, name, _convert_batch_norm(child))
    return module
