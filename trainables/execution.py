"""How a training is executed: device, determinism, compilation. What is computed stays the same."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trainables.config import HeadConfig, TrialConfig
from trainables.distributed import SINGLE, WorkerGroup
from trainables.models import Embedder, build_model


def choose_device(config: TrialConfig) -> torch.device:
    """The device of `config`; "auto" is the first GPU, or the CPU where there is none."""
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(config.device)


@contextlib.contextmanager
def cudnn_choices(config: TrialConfig) -> Iterator[None]:
    """Lets cuDNN time its algorithms and take the fastest, or, if deterministic, one that repeats."""
    with torch.backends.cudnn.flags(
        enabled=torch.backends.cudnn.enabled,
        benchmark=not config.deterministic,
        deterministic=config.deterministic,
        allow_tf32=torch.backends.cudnn.allow_tf32,
    ):
        yield


@contextlib.contextmanager
def deterministic_algorithms(enabled: bool) -> Iterator[None]:
    """Makes torch refuse what would not repeat; around training only, since cumsum has no such form."""
    if not enabled:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)


class Placed(NamedTuple):
    """A model on its device, and what a training step calls.

    Attributes:
        model: the model itself.
        replica: the same parameters, compiled and, in a phase of a group, data-parallel.
    """

    model: Embedder
    replica: Callable[[Tensor], Tensor]


_WARM_MODELS: dict[object, Placed] = {}


def place_model(config: TrialConfig, device: torch.device, group: WorkerGroup = SINGLE) -> Placed:
    """The initialised model of `config` on `device`.

    With `config.compile`, trainings of equal shape in one process share one model with its compiled
    graphs: its parameters stay where they are in memory and take on the new values, so that CUDA
    graphs stay valid. Only one such training may run in a process at a time.
    """
    model = build_model(config).to(device)
    group.synchronize_batch_norm(model)
    if group.size > 1 or not config.compile:
        return Placed(model, model)
    shape = HeadConfig(kind="none") if config.head.kind == "none" else config.head
    key = (config.encoder, shape, config.precision, config.channels_last, device)
    if key not in _WARM_MODELS:
        # The graphs of one shape at a time: they hold memory, and torch gives up after a few shapes.
        _WARM_MODELS.clear()
        torch.compiler.reset()
        _WARM_MODELS[key] = Placed(model, _compile(model, device))
    warm = _WARM_MODELS[key]
    if warm.model is not model:
        warm.model.load_state_dict(model.state_dict())
        warm.model.requires_grad_(True).zero_grad(set_to_none=True)
    return warm


def replicate(config: TrialConfig, placed: Placed, group: WorkerGroup) -> Placed:
    """The placed model for one phase of a group's training; called once it is set what is trained."""
    if group.size == 1:
        return placed
    replica = group.data_parallel(placed.model)
    device = next(placed.model.parameters()).device
    return Placed(placed.model, _compile(replica, device) if config.compile else replica)


def _compile(replica: nn.Module, device: torch.device) -> Callable[[Tensor], Tensor]:
    mode = "reduce-overhead" if device.type == "cuda" else "default"
    return torch.compile(replica, dynamic=False, mode=mode)
