"""The model that is trained and delivered: embedding = normalise(head(encoder(x)))."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from trainables.config import TrialConfig
from trainables.data import Items
from trainables.encoders import build_encoder
from trainables.facts import ENCODER_FACTS
from trainables.heads import build_head
from trainables.randomness import derive_seed

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


class Features(NamedTuple):
    """The three stages of one forward pass, each (batch, d_enc), float32."""

    encoded: Float[Tensor, "batch dim"]
    projected: Float[Tensor, "batch dim"]
    embedding: Float[Tensor, "batch dim"]


class Embedder(nn.Module):
    """Input normalisation, encoder, head and L2 normalisation.

    Calling it with images, uint8 in [0, 255] or floating point in [0, 1], or with sentences, as the
    encoder takes them, gives unit-length embeddings.

    Attributes:
        precision: of the encoder, torch.float32 or torch.bfloat16. The head is always float32: with
            bfloat16 rounding, the nearly equal outputs that a monotonic head starts with would differ
            by rounding alone.
    """

    def __init__(
        self,
        normalize: nn.Module,
        encoder: nn.Module,
        head: nn.Module,
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.encoder = encoder
        self.head = head
        self.precision = precision

    def features(self, items: Items) -> Features:
        return self.project(self.encode(items))

    def encode(self, items: Items) -> Float[Tensor, "batch dim"]:
        """The encoder's output."""
        if isinstance(items, Tensor) and items.dtype == torch.uint8:
            items = items.float() / 255
        with self._autocast(items.device):
            encoded = self.encoder(self.normalize(items))
        return encoded if self.precision == torch.float32 else encoded.float()

    def project(self, encoded: Float[Tensor, "batch dim"]) -> Features:
        """Head and normalisation of the encoder's output."""
        projected = self.head(encoded)
        return Features(encoded, projected, functional.normalize(projected, dim=1))

    def forward(self, items: Items) -> Float[Tensor, "batch dim"]:
        return self.features(items).embedding

    def _autocast(self, device: torch.device) -> torch.autocast:
        enabled = self.precision != torch.float32
        return torch.autocast(device.type, dtype=self.precision if enabled else None, enabled=enabled)


class ImageNormalization(nn.Module):
    """Subtracts ImageNet's mean colour and divides by its deviation, channel by channel."""

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, values in (("mean", _IMAGENET_MEAN), ("deviation", _IMAGENET_DEVIATION)):
            self.register_buffer(name, torch.tensor(values).reshape(3, 1, 1), persistent=False)

    def forward(self, images: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch 3 h w"]:
        return (images - self.mean) / self.deviation


def build_model(
    config: TrialConfig, with_initial_weights: bool = True, description: Path | None = None
) -> Embedder:
    """Builds and initialises the model of `config`.

    Encoder and head draw from streams of their own, so that every head kind starts from the same
    encoder; the caller's random state is untouched.

    Args:
        config: the training that it is for.
        with_initial_weights: whether to load `config.encoder_weights`; not where others follow.
        description: the folder of a snapshot that says what a transformer without initial weights is.

    Raises:
        trainables.errors.WeightsError: the encoder's weights cannot be had.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, "encoder initialisation"))
        encoder = build_encoder(config, with_initial_weights, description)
        torch.manual_seed(derive_seed(config.seed, "head initialisation"))
        head = build_head(config.head, config.embedding_dim)
    if config.channels_last and ENCODER_FACTS[config.encoder].num_channels:
        encoder = encoder.to(memory_format=torch.channels_last)
    is_colour = ENCODER_FACTS[config.encoder].num_channels == 3
    normalize = ImageNormalization() if is_colour else nn.Identity()
    precision = torch.bfloat16 if config.precision == "bf16" else torch.float32
    return Embedder(normalize, encoder, head, precision)
