"""How a training is executed: device, determinism, compilation. What is computed stays the same."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.compiler.config as compiler_config
from torch import Tensor, nn

from trainables.config import TrialConfig
from trainables.data import Items
from trainables.distributed import SINGLE, WorkerGroup
from trainables.models import Embedder, build_model

# Read by cuBLAS once, when a process first multiplies on a GPU; `deterministic` needs it then.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


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
        replica: the same parameters, its encoder compiled, or in a phase of a group data-parallel.
    """

    model: Embedder
    replica: Callable[[Items], Tensor]


_WARM_MODELS: dict[object, Placed] = {}


def place_model(
    config: TrialConfig,
    device: torch.device,
    group: WorkerGroup = SINGLE,
    with_initial_weights: bool = True,
) -> Placed:
    """The initialised model of `config` on `device`; see `trainables.models.build_model`.

    With `config.compile`, trainings in one process whose encoder takes equal batches share one encoder
    with its compiled graphs, whatever their heads: its parameters stay where they are in memory and
    take on the new values, so that CUDA graphs stay valid. Only one such training may run in a process
    at a time.
    """
    model = build_model(config, with_initial_weights).to(device)
    group.synchronize_batch_norm(model)
    if group.size > 1 or not config.compile:
        return Placed(model, model)
    key = _compiled_for(config, device)
    if key not in _WARM_MODELS:
        # The graphs of one encoder at a time: they hold memory, and torch gives up after a few shapes.
        _WARM_MODELS.clear()
        torch.compiler.reset()
        encode = _compile(model.encode, device)
        replica = lambda items: model.project(encode(items)).embedding  # noqa: E731
        _WARM_MODELS[key] = Placed(model, replica)
    warm = _WARM_MODELS[key]
    if warm.model is not model:
        warm.model.head = model.head
        warm.model.encoder.load_state_dict(model.encoder.state_dict())
        warm.model.requires_grad_(True).zero_grad(set_to_none=True)
    return warm


def _compiled_for(config: TrialConfig, device: torch.device) -> object:
    """What the graphs of an encoder depend on: how it computes, and how large its batches are, of which
    the data's number decides the last one's.
    """
    computes = config.encoder, config.precision, config.channels_last, config.deterministic, device
    return (*computes, config.batch_size, config.num_views, config.dataset, config.data)


def replicate(config: TrialConfig, placed: Placed, group: WorkerGroup) -> Placed:
    """The placed model for one phase of a group's training; called once it is set what is trained."""
    if group.size == 1:
        return placed
    replica = group.data_parallel(placed.model)
    device = next(placed.model.parameters()).device
    return Placed(placed.model, _compile(replica, device) if config.compile else replica)


def _compile(
    function: Callable[[Items], Tensor] | nn.Module, device: torch.device
) -> Callable[[Items], Tensor]:
    # Rather an error than graphs that are given up in silence.
    compiler_config.fail_on_recompile_limit_hit = True
    mode = "reduce-overhead" if device.type == "cuda" else "default"
    return torch.compile(function, dynamic=False, mode=mode)
