"""Every setting of one training, with its unit and the paper's value as default.

Read by `orchestrator.settings`, which validates search spaces against it without importing torch,
and by `trainables.training`, which obeys it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

DatasetName = Literal["cifar100", "cifar10", "digits"]
EncoderKind = Literal["resnet34", "resnet8", "digits_cnn"]
HeadKind = Literal["none", "mlp", "monotonic"]
PresetName = Literal["paper_cifar100", "paper_cifar10", "paper_cifar100_dynamics"]
CROSS_CHECKED = frozenset(
    {
        "dataset",
        "data.source",
        "data.num_classes",
        "data.num_training_items",
        "augmentation",
        "encoder",
        "encoder_weights",
    }
)
"""The settings whose legal values depend on one another; see `TrialConfig`."""


@dataclass(frozen=True)
class DatasetFacts:
    """What is known of a dataset without loading it.

    Attributes:
        num_training_items: items trained on in one epoch, all classes.
        num_classes: labels are 0 to num_classes - 1.
        item_shape: (channel, h, w).
        has_sources: whether `data.source` may say where it comes from; else it is bundled.
    """

    num_training_items: int
    num_classes: int
    item_shape: tuple[int, int, int]
    has_sources: bool


DATASET_FACTS: dict[DatasetName, DatasetFacts] = {
    "cifar100": DatasetFacts(45_000, 100, (3, 32, 32), has_sources=True),
    "cifar10": DatasetFacts(45_000, 10, (3, 32, 32), has_sources=True),
    "digits": DatasetFacts(1197, 10, (1, 8, 8), has_sources=False),
}


@dataclass(frozen=True)
class EncoderFacts:
    """What is known of an encoder without building it.

    Attributes:
        dim: width d_enc of its output; a head keeps it, so it is also the embedding's width.
        num_channels: of the images it takes.
        has_imagenet_weights: whether torchvision has weights for it.
    """

    dim: int
    num_channels: int
    has_imagenet_weights: bool


ENCODER_FACTS: dict[EncoderKind, EncoderFacts] = {
    "resnet34": EncoderFacts(512, 3, has_imagenet_weights=True),
    "resnet8": EncoderFacts(128, 3, has_imagenet_weights=False),
    "digits_cnn": EncoderFacts(128, 1, has_imagenet_weights=False),
}


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class DataConfig(_Settings):
    """Where a dataset comes from, and how much of it is used."""

    source: str | None = Field(
        default=None,
        min_length=1,
        description="a hub id, a directory of Parquet files with the hub's columns, or torchvision; "
        "null: the dataset's usual hub id",
    )
    num_classes: int | None = Field(
        default=None, ge=2, description="only the classes below this; null: all"
    )
    num_training_items: int | None = Field(
        default=None, ge=2, description="only the first items of the training split; null: all"
    )


class HeadConfig(_Settings):
    """The head between encoder and embedding (paper, section 3.2)."""

    kind: HeadKind = "monotonic"
    depth: int = Field(default=1, ge=1, le=8, description="hidden layers; no effect where kind is none")
    width_ratio: float = Field(
        default=2.0, gt=0, le=16, description="hidden width / d_enc; no effect where kind is none"
    )


class OptimizerConfig(_Settings):
    """AdamW with one learning rate for the head and one for the encoder (paper, appendix A)."""

    head_lr: float = Field(default=2e-4, gt=0)
    encoder_lr_ratio: float = Field(default=1.0, gt=0, description="encoder_lr / head_lr")
    weight_decay: float = Field(
        default=1e-4, ge=0, description="on every parameter, raw weights included"
    )
    clip_norm: float = Field(default=1.0, gt=0, description="global gradient norm")

    @property
    def encoder_lr(self) -> float:
        return self.head_lr * self.encoder_lr_ratio


class WarmupConfig(_Settings):
    """Head-only training before the main phase, with its own optimizer; skipped without a head."""

    epochs: int = Field(default=10, ge=0)
    head_lr: float = Field(default=1e-4, gt=0)


class TrialConfig(_Settings):
    """One training: data, model, loss, schedule, seed, and how it is executed."""

    preset: PresetName | None = Field(
        default=None, description="settings of a run of the paper, under those that are named beside it"
    )
    dataset: DatasetName = "cifar100"
    data: DataConfig = DataConfig()
    augmentation: Literal["trivial_augment_wide", "none"] = Field(
        default="trivial_augment_wide", description="TrivialAugmentWide and RandomErasing, or nothing"
    )
    encoder: EncoderKind = "resnet34"
    encoder_weights: str = Field(
        default="imagenet",
        min_length=1,
        description="imagenet, none, or the path of a state dict, also a snapshot's weights.safetensors",
    )
    head: HeadConfig = HeadConfig()
    temperature: float = Field(default=0.1, gt=0, description="tau of Eq. 1")
    num_views: int = Field(default=1, ge=1, le=8, description="augmented views of each item in a batch")
    batch_size: int = Field(default=256, ge=2, description="items in the global batch, over all workers")
    epochs: int = Field(
        default=200, ge=1, description="length of the main phase and T_max of its cosine"
    )
    optimizer: OptimizerConfig = OptimizerConfig()
    warmup: WarmupConfig = WarmupConfig()
    validate_every: int = Field(default=5, ge=1, description="epochs between validations")
    patience_epochs: int | None = Field(
        default=20,
        ge=1,
        description="stop after so many epochs without a better 5-NN accuracy; null: never",
    )
    seed: int = Field(default=42, ge=0, lt=2**32)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "bf16"] = Field(
        default="fp32",
        description="of the encoder; head, loss and BatchNorm statistics are fp32. fp32 is as torch "
        "does it: TF32 in the convolutions of a GPU, exact elsewhere",
    )
    channels_last: bool = Field(default=True, description="memory layout of the encoder")
    compile: bool = Field(default=False, description="torch.compile, with CUDA graphs on a GPU")
    deterministic: bool = Field(default=False, description="the same result twice on one machine")

    @model_validator(mode="before")
    @classmethod
    def _put_over_preset(cls, data: Any) -> Any:
        preset = data.get("preset") if isinstance(data, dict) else None
        return _merge(PRESETS[preset], data) if isinstance(preset, str) and preset in PRESETS else data

    @model_validator(mode="after")
    def _check(self) -> TrialConfig:
        for fault in self._faults():
            raise ValueError(fault)
        return self

    def _faults(self) -> Iterator[str]:
        """What is wrong between settings that are each well-formed; all are in CROSS_CHECKED."""
        facts, encoder = DATASET_FACTS[self.dataset], ENCODER_FACTS[self.encoder]
        if facts.item_shape[0] != encoder.num_channels:
            fitting = [n for n, f in ENCODER_FACTS.items() if f.num_channels == facts.item_shape[0]]
            yield (
                f"encoder {self.encoder} takes images of {encoder.num_channels} channel(s), "
                f"{self.dataset} has {facts.item_shape[0]}; set encoder to {' or '.join(fitting)}"
            )
        if self.augmentation != "none" and facts.item_shape[0] != 3:
            yield (
                f"augmentation {self.augmentation} needs colour images, {self.dataset} has none; "
                "set augmentation to none"
            )
        if self.encoder_weights == "imagenet" and not encoder.has_imagenet_weights:
            yield f"there are no ImageNet weights for {self.encoder}; set encoder_weights to none"
        if self.data.source and not facts.has_sources:
            yield f"{self.dataset} comes with scikit-learn; remove data.source"
        if self.data.num_classes and self.data.num_classes > facts.num_classes:
            yield f"data.num_classes is {self.data.num_classes}, {self.dataset} has {facts.num_classes}"
        if self.data.num_training_items and self.data.num_training_items > facts.num_training_items:
            yield (
                f"data.num_training_items is {self.data.num_training_items}, {self.dataset} has "
                f"{facts.num_training_items}"
            )

    @property
    def embedding_dim(self) -> int:
        return ENCODER_FACTS[self.encoder].dim

    @property
    def num_training_items(self) -> int:
        """About how many items an epoch has, for estimates made without loading the data."""
        facts = DATASET_FACTS[self.dataset]
        share = (self.data.num_classes or facts.num_classes) / facts.num_classes
        whole = round(facts.num_training_items * share)
        return min(whole, self.data.num_training_items or whole)


PRESETS: dict[PresetName, dict[str, Any]] = {
    "paper_cifar100": {"deterministic": True},
    "paper_cifar10": {
        "deterministic": True,
        "dataset": "cifar10",
        "optimizer": {"head_lr": 5e-4},
    },
    "paper_cifar100_dynamics": {"deterministic": True, "validate_every": 1, "patience_epochs": 50},
}
"""What the paper's runs set differently from the defaults: appendix A; the last is Fig. 4's run."""


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` on `base`, group by group."""
    merged = dict(base)
    for name, value in over.items():
        inner = merged.get(name)
        if isinstance(inner, dict) and isinstance(value, BaseModel):
            value = value.model_dump(exclude_unset=True)  # noqa: PLW2901
        if isinstance(inner, dict) and isinstance(value, dict):
            value = _merge(inner, value)  # noqa: PLW2901
        merged[name] = value
    return merged
