"""Every setting of one training, with its unit and the paper's value as default.

Read by `orchestrator.settings`, which validates search spaces against it without importing torch,
and by `trainables.training`, which obeys it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from trainables.facts import DATASET_FACTS, ENCODER_FACTS, MINILM, DatasetName, EncoderKind
from trainables.reports import Task

HeadKind = Literal["none", "mlp", "monotonic"]
PresetName = Literal["paper_cifar100", "paper_cifar10", "paper_cifar100_dynamics", "paper_snli"]
CROSS_CHECKED = frozenset(
    {
        "dataset",
        "data.source",
        "data.scored_pairs",
        "data.image_size",
        "data.num_classes",
        "data.num_training_items",
        "augmentation",
        "encoder",
        "encoder_dim",
        "encoder_weights",
        "num_views",
        "compile",
    }
)
"""The settings whose legal values depend on one another; see `TrialConfig`."""


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class DataConfig(_Settings):
    """Where a dataset comes from, and how much of it is used."""

    source: str | None = Field(
        default=None,
        min_length=1,
        description="a hub id, a directory of Parquet files with the hub's columns, or torchvision; "
        "of image_folder the folder, of sentence_pairs a CSV or Parquet file; null: the dataset's usual "
        "hub id",
    )
    scored_pairs: str | None = Field(
        default=None,
        min_length=1,
        description="the pairs of sentences with scores that a similarity task is validated and tested "
        "on: a hub id, a directory, or a CSV or Parquet file; null: STSb from the hub",
    )
    image_size: int | None = Field(
        default=None,
        ge=8,
        le=512,
        description="images of an image_folder are resized to so many pixels a side; null: 32",
    )
    max_length: int = Field(
        default=128, ge=4, le=8192, description="tokens of a sentence that are kept, of sentences only"
    )
    distinct_sentences: bool = Field(
        default=False,
        description="whether no sentence occurs twice in a batch of pairs, as it would be a negative of "
        "itself",
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
    encoder_dim: int | None = Field(
        default=None,
        ge=1,
        description="width of a transformer's output, its hidden_size; null: 384, MiniLM's",
    )
    encoder_weights: str = Field(
        default="imagenet",
        min_length=1,
        description="imagenet, none, or the path of a state dict, also a snapshot's "
        "weights.safetensors; of a transformer a hub id, a directory, or a Python package with them",
    )
    head: HeadConfig = HeadConfig()
    temperature: float = Field(default=0.1, gt=0, description="tau of Eq. 1")
    num_views: int = Field(default=1, ge=1, le=8, description="augmented views of each item in a batch")
    batch_size: int = Field(
        default=256, ge=2, description="items, or pairs, in the global batch, over all workers"
    )
    bucketing: bool = Field(
        default=True,
        description="train on the sentences of a batch in buckets of like length, so that little is "
        "spent on padding; which pairs share a batch stays the same",
    )
    epochs: int = Field(
        default=200, ge=1, description="length of the main phase and T_max of its cosine"
    )
    optimizer: OptimizerConfig = OptimizerConfig()
    warmup: WarmupConfig = WarmupConfig()
    validate_every: int = Field(default=5, ge=1, description="epochs between validations")
    patience_epochs: int | None = Field(
        default=20,
        ge=1,
        description="stop after so many epochs without a better 5-NN accuracy, or of pairs Spearman "
        "correlation; null: never",
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
        yield from self._encoder_faults()
        yield from self._data_faults()
        if self.task == "similarity":
            yield from self._sentence_faults()

    def _encoder_faults(self) -> Iterator[str]:
        facts, encoder = DATASET_FACTS[self.dataset], ENCODER_FACTS[self.encoder]
        num_channels = facts.item_shape[0] if facts.item_shape else None
        if num_channels != encoder.num_channels:
            fitting = [n for n, f in ENCODER_FACTS.items() if f.num_channels == num_channels]
            takes, has = _items(encoder.num_channels), _items(num_channels)
            if num_channels and encoder.num_channels:
                has = str(num_channels)
            way = "" if num_channels else ", or begin with preset: paper_snli, which sets the rest too"
            yield (
                f"encoder {self.encoder} takes {takes}, {self.dataset} has {has}; set encoder to "
                f"{' or '.join(fitting)}{way}"
            )
        if self.encoder_dim and self.encoder != "transformer":
            yield f"encoder_dim is a transformer's; {self.encoder} is {encoder.dim} wide, remove it"
        if self.encoder_weights == "imagenet" and not encoder.has_imagenet_weights:
            other = MINILM if self.encoder == "transformer" else "none"
            yield f"there are no ImageNet weights for {self.encoder}; set encoder_weights to {other}"
        if self.encoder_weights == "none" and self.encoder == "transformer":
            yield (
                "a transformer is what its weights say, so it has none without them; set "
                f"encoder_weights to a hub id, such as {MINILM}, or a directory"
            )

    def _data_faults(self) -> Iterator[str]:
        facts, data = DATASET_FACTS[self.dataset], self.data
        is_similarity = facts.task == "similarity"
        if self.augmentation != "none" and (facts.item_shape is None or facts.item_shape[0] != 3):
            yield (
                f"augmentation {self.augmentation} needs colour images, {self.dataset} has none; "
                "set augmentation to none"
            )
        if data.source and facts.source == "bundled":
            yield f"{self.dataset} comes with scikit-learn; remove data.source"
        if not data.source and facts.source == "own":
            what = "the file of your pairs" if is_similarity else "the folder of your images"
            yield f"{self.dataset} is data of your own; set data.source to {what}"
        if data.scored_pairs and not is_similarity:
            yield f"data.scored_pairs are for pairs of sentences, {self.dataset} has images; remove it"
        if data.image_size and self.dataset != "image_folder":
            yield f"data.image_size is for an image_folder, not for {self.dataset}; remove it"
        if data.num_classes and is_similarity:
            yield f"data.num_classes is for images, {self.dataset} has no classes; remove it"
        elif data.num_classes and facts.num_classes and data.num_classes > facts.num_classes:
            yield f"data.num_classes is {data.num_classes}, {self.dataset} has {facts.num_classes}"
        known = facts.num_training_items
        if data.num_training_items and known and data.num_training_items > known:
            yield f"data.num_training_items is {data.num_training_items}, {self.dataset} has {known}"

    def _sentence_faults(self) -> Iterator[str]:
        if self.num_views > 1:
            yield "num_views is for images; the two sentences of a pair are its views, set it to 1"
        if self.compile:
            yield "compile is for images, which all have one size; set compile to false for sentences"

    @property
    def task(self) -> Task:
        return DATASET_FACTS[self.dataset].task

    @property
    def embedding_dim(self) -> int:
        return self.encoder_dim or ENCODER_FACTS[self.encoder].dim

    @property
    def item_shape(self) -> tuple[int, int, int] | None:
        """Of an image, (channel, h, w); None for sentences."""
        shape, size = DATASET_FACTS[self.dataset].item_shape, self.data.image_size
        return (shape[0], size, size) if shape and size else shape

    @property
    def num_training_items(self) -> int | None:
        """About how many items an epoch has, for estimates made without loading the data; None where
        that cannot be known.
        """
        facts = DATASET_FACTS[self.dataset]
        if facts.num_training_items is None:
            return self.data.num_training_items
        share = (
            self.data.num_classes / facts.num_classes
            if self.data.num_classes and facts.num_classes
            else 1
        )
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
    "paper_snli": {
        "deterministic": True,
        "dataset": "snli",
        "augmentation": "none",
        "encoder": "transformer",
        "encoder_weights": MINILM,
        "temperature": 0.05,
        "batch_size": 128,
        "epochs": 40,
        "optimizer": {"head_lr": 2e-4, "encoder_lr_ratio": 1e-3},
        "warmup": {"epochs": 1, "head_lr": 1e-4},
        "validate_every": 1,
        "patience_epochs": 10,
    },
}
"""What the paper's runs set differently from the defaults: appendix A; the last is Fig. 4's run."""


def _items(num_channels: int | None) -> str:
    return "sentences" if num_channels is None else f"images of {num_channels} channel(s)"


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
