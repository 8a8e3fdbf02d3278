"""Trainings short enough for a test, used by the tests of training, distribution and snapshots."""

from dataclasses import is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from trainables.checkpoint import CheckpointFile
from trainables.config import OptimizerConfig, TrialConfig, WarmupConfig
from trainables.distributed import SINGLE, WorkerGroup
from trainables.images import Subset
from trainables.reports import EpochReport
from trainables.training import fit
from trainables.validation import Validation

NUM_STEPS = 5
"""Steps in an epoch of `short_trial`: 1,197 items in batches of 256."""

NO_WARMUP = WarmupConfig(epochs=0)
FROZEN = OptimizerConfig(head_lr=1e-30)
"""A learning rate so small that float32 weights other than 0 do not move."""


DIGITS: dict[str, Any] = {
    "dataset": "digits",
    "encoder": "digits_cnn",
    "encoder_weights": "none",
    "augmentation": "none",
}


def digits_trial(**changes: Any) -> TrialConfig:
    """The paper's settings on digits."""
    return TrialConfig(**(DIGITS | changes))


def colour_trial(**changes: Any) -> TrialConfig:
    settings: dict[str, Any] = {
        "dataset": "cifar10",
        "encoder": "resnet8",
        "encoder_weights": "none",
        "batch_size": 64,
        "epochs": 2,
        "validate_every": 1,
        "warmup": {"epochs": 1},
        "device": "cpu",
    }
    return TrialConfig.model_validate(settings | changes)


def short_trial(**changes: Any) -> TrialConfig:
    settings: dict[str, Any] = {"epochs": 2, "validate_every": 1, "warmup": NO_WARMUP, "device": "cpu"}
    return digits_trial(**(settings | changes))


def fit_reports(config: TrialConfig, group: WorkerGroup = SINGLE) -> list[EpochReport]:
    reports: list[EpochReport] = []
    fit(config, lambda validation: reports.append(validation.report), group)
    return reports


def fit_states(config: TrialConfig) -> list[dict[str, Tensor]]:
    """The model's tensors at every validation."""
    states: list[dict[str, Tensor]] = []

    def listener(validation: Validation) -> None:
        state = validation.model.state_dict()
        states.append({name: tensor.detach().clone() for name, tensor in state.items()})

    fit(config, listener)
    return states


def fit_with(
    file: CheckpointFile, config: TrialConfig, group: WorkerGroup = SINGLE
) -> tuple[list[EpochReport], dict[str, Any]]:
    """What a training that may be resumed tells, reports of its checkpoint included, and the last
    checkpoint of it.
    """
    reports: list[EpochReport] = []
    file = replace(file, resend=reports.append)
    fit(config, lambda validation: reports.append(validation.report), group, file)
    # The first worker may still be writing when the others are done.
    return reports, group.broadcast(None if group.rank else file.read())


def assert_same(got: Any, expected: Any) -> None:
    """Equality to the last bit of nested data with tensors, wall times aside."""
    assert type(got) is type(expected)
    if isinstance(expected, Tensor):
        assert torch.equal(got, expected)
        assert (got.dtype, got.stride()) == (expected.dtype, expected.stride())
    elif is_dataclass(expected):
        assert_same(vars(got), vars(expected))
    elif isinstance(expected, dict):
        assert list(got) == list(expected)
        for name, value in expected.items():
            if not str(name).endswith("_time_s"):
                assert_same(got[name], value)
    elif isinstance(expected, list | tuple):
        for one, other in zip(got, expected, strict=True):
            assert_same(one, other)
    else:
        assert got == expected


def last_validation(config: TrialConfig) -> Validation:
    validations: list[Validation] = []
    fit(config, validations.append)
    return validations[-1]


def without_times(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.endswith("_time_s")}


def relative_error(got: Tensor, expected: Tensor) -> float:
    return float(torch.linalg.vector_norm(got - expected) / torch.linalg.vector_norm(expected))


NUM_CLASSES = 5


def noisy_tiles(num: int, seed: int) -> Subset:
    """32x32 images that show their class's 4x4 tiles under noise."""
    source = torch.Generator().manual_seed(seed)
    tiles = torch.rand(NUM_CLASSES, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 255
    labels = torch.arange(num) % NUM_CLASSES
    noise = torch.randn(num, 3, 32, 32, generator=source) * 40
    images = tiles[labels].repeat_interleave(8, dim=2).repeat_interleave(8, dim=3) + noise
    return Subset(images.clamp(0, 255).to(torch.uint8), labels)
