"""Every setting of one training, with its unit and the paper's value as default.

Read by `orchestrator.settings`, which validates search spaces against it without importing torch,
and by `trainables.training`, which obeys it.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

DatasetName = Literal["digits"]
EncoderKind = Literal["digits_cnn"]
HeadKind = Literal["none", "mlp", "monotonic"]

ENCODER_DIMS: dict[EncoderKind, int] = {"digits_cnn": 128}
"""Width d_enc of each encoder's output; a head keeps it, so it is also the embedding's width."""

NUM_TRAINING_ITEMS: dict[DatasetName, int] = {"digits": 1197}
"""Number of items trained on in one epoch, for estimates made without loading the data."""


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


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
    """One training: data, model, loss, schedule, seed."""

    dataset: DatasetName = "digits"
    encoder: EncoderKind = "digits_cnn"
    head: HeadConfig = HeadConfig()
    temperature: float = Field(default=0.1, gt=0, description="tau of Eq. 1")
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

    @property
    def embedding_dim(self) -> int:
        return ENCODER_DIMS[self.encoder]
