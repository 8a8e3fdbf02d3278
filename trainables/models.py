"""The model that is trained and delivered: embedding = normalise(head(encoder(x)))."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from trainables.config import TrialConfig
from trainables.encoders import build_encoder
from trainables.heads import build_head
from trainables.randomness import derive_seed


class Features(NamedTuple):
    """The three stages of one forward pass, each (batch, d_enc)."""

    encoded: Float[Tensor, "batch dim"]
    projected: Float[Tensor, "batch dim"]
    embedding: Float[Tensor, "batch dim"]


class Embedder(nn.Module):
    """Encoder, head and L2 normalisation. Calling it gives unit-length embeddings."""

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def features(self, items: Tensor) -> Features:
        encoded = self.encoder(items)
        projected = self.head(encoded)
        return Features(encoded, projected, functional.normalize(projected, dim=1))

    def forward(self, items: Tensor) -> Float[Tensor, "batch dim"]:
        return self.features(items).embedding


def build_model(config: TrialConfig) -> Embedder:
    """Builds and initialises the model of `config`.

    Encoder and head draw from streams of their own, so that every head kind starts from the same
    encoder; the caller's random state is untouched.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, "encoder initialisation"))
        encoder = build_encoder(config.encoder)
        torch.manual_seed(derive_seed(config.seed, "head initialisation"))
        head = build_head(config.head, config.embedding_dim)
    return Embedder(encoder, head)
