"""The encoders whose output the head turns into an embedding.

Called by `trainables.models.build_model`. A new kind is one function in ENCODERS and its name and
width in `trainables.config`.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from trainables.config import ENCODER_DIMS, EncoderKind


def build_encoder(kind: EncoderKind) -> nn.Module:
    """Builds an encoder: a batch of items to (batch, ENCODER_DIMS[kind])."""
    return ENCODERS[kind]()


def _digits_cnn() -> nn.Module:
    """A convolutional network for 8x8 grey images, (batch, 1, 8, 8) to (batch, 128)."""
    dim = ENCODER_DIMS["digits_cnn"]
    return nn.Sequential(
        *_convolution(1, 32, stride=1),
        *_convolution(32, 64, stride=2),
        *_convolution(64, dim, stride=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def _convolution(channels_in: int, channels_out: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    ]


ENCODERS: dict[EncoderKind, Callable[[], nn.Module]] = {"digits_cnn": _digits_cnn}
