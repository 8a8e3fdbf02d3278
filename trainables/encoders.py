"""The encoders whose output the head turns into an embedding.

Called by `trainables.models.build_model`. A new kind for images is one function in IMAGE_ENCODERS and
its facts in `trainables.facts`; those for sentences are in `trainables.transformer`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from trainables.config import TrialConfig
from trainables.errors import WeightsError
from trainables.facts import ENCODER_FACTS, EncoderKind
from trainables.transformer import build_transformer, random_transformer, read_transformer

RESNET8_WIDTH = 32
_IMAGENET_STEM = (64, 3, 7, 7)


_IN_SNAPSHOT = "encoder."
"""What an encoder's names begin with among a whole model's."""


def build_encoder(
    config: TrialConfig, with_initial_weights: bool = True, description: Path | None = None
) -> nn.Module:
    """Builds the encoder of a training: a batch of items to (batch, config.embedding_dim).

    Args:
        config: the training that it is for.
        with_initial_weights: whether to load `config.encoder_weights`; else it is randomly initialised.
        description: the folder of a snapshot that says what a transformer without initial weights is;
            one of MiniLM's depth where left out.

    Raises:
        WeightsError: the weights cannot be had, or do not fit.
    """
    if config.encoder == "transformer":
        if with_initial_weights:
            return build_transformer(
                config.encoder_weights,
                config.embedding_dim,
                config.bucketing,
                max_length=config.data.max_length,
            )
        if description is not None:
            return read_transformer(description, config.bucketing)
        return random_transformer(config.embedding_dim, config.bucketing)
    encoder = build_image_encoder(config.encoder)
    if with_initial_weights:
        load_weights(encoder, config.encoder, config.encoder_weights)
    return encoder


def build_image_encoder(kind: EncoderKind) -> nn.Module:
    """Builds an encoder of images, randomly initialised: (batch, channel, h, w) to (batch, dim)."""
    return IMAGE_ENCODERS[kind]()


def load_weights(encoder: nn.Module, kind: EncoderKind, weights: str) -> None:
    """Puts initial weights into an encoder of images.

    Args:
        encoder: changed in place.
        kind: what it is.
        weights: "none" leaves it as it is; "imagenet" is torchvision's ImageNet V1 set, without the
            stem, which is another one at 32x32; else the path of a state dict (.safetensors, or a
            torch file, read as tensors only), of this encoder, of torchvision's model, or of a
            snapshot, whose head is left out.

    Raises:
        WeightsError: the weights cannot be had, or do not fit.
    """
    if weights == "none":
        return
    state = _imagenet_state(kind) if weights == "imagenet" else _state_of_file(Path(weights))
    own = encoder.state_dict()
    if any(name.startswith(_IN_SNAPSHOT) for name in state):
        state = {n.removeprefix(_IN_SNAPSHOT): v for n, v in state.items() if n.startswith(_IN_SNAPSHOT)}
    # torchvision's classifier is not part of the encoder, its 7x7 stem not the one for 32x32.
    state = {name: value for name, value in state.items() if not name.startswith("fc.")}
    stem = "conv1.weight"
    if stem in own and stem in state and tuple(state[stem].shape) == _IMAGENET_STEM:
        state[stem] = own[stem]
    try:
        encoder.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(f"encoder_weights: {weights} does not fit {kind}: {error}") from error


def _imagenet_state(kind: EncoderKind) -> dict[str, Tensor]:
    assert ENCODER_FACTS[kind].has_imagenet_weights
    from torchvision.models import ResNet34_Weights

    weights = ResNet34_Weights.IMAGENET1K_V1
    try:
        return dict(weights.get_state_dict(progress=False, check_hash=True, weights_only=True))
    except Exception as error:  # of the network, the disk and pickle: no common base
        raise WeightsError(
            f"encoder_weights: the ImageNet weights of {kind} cannot be had from {weights.url} "
            f"({error}); connect to the network, put the file into {torch.hub.get_dir()}/checkpoints, "
            "set encoder_weights to the path of a state dict, or to none to train from scratch"
        ) from error


def _state_of_file(path: Path) -> dict[str, Tensor]:
    path = path.expanduser()
    if not path.is_file():
        raise WeightsError(
            f"encoder_weights: {path} is not a file; name a state dict, imagenet, or none"
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, ValueError, EOFError) as error:
        raise WeightsError(f"encoder_weights: {path} holds no state dict: {error}") from error
    except Exception as error:  # pickle's errors have no common base
        # Without torch's own text, which advises to load it unsafely.
        raise WeightsError(
            f"encoder_weights: {path} holds no state dict, or more than tensors, which is not loaded; "
            "save the encoder's state_dict()"
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise WeightsError(f"encoder_weights: {path} holds no state dict")
    return state


def _resnet34() -> nn.Module:
    """The ResNet34 of torchvision for 32x32 images, (batch, 3, h, w) to (batch, 512).

    The stem is a 3x3 convolution of stride 1 without max-pooling ("suitably adapted", paper, section
    4.1), the classifier is gone: 21,276,992 parameters.
    """
    from torchvision.models import resnet34

    model = resnet34(weights=None)
    model.conv1 = nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    for name in ("maxpool", "fc"):
        setattr(model, name, nn.Identity())
    return model


def _resnet8() -> nn.Module:
    """A ResNet of 8 layers for CPUs, (batch, 3, h, w) to (batch, 128).

    Source: He et al. (2016), section 4.2, with n = 1, without the classifier, twice as wide.
    """
    width = RESNET8_WIDTH
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        _ResidualBlock(width, width, stride=1),
        _ResidualBlock(width, 2 * width, stride=2),
        _ResidualBlock(2 * width, 4 * width, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


class _ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *_convolution(channels_in, channels_out, stride),
            nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
        )
        same_shape = stride == 1 and channels_in == channels_out
        self.shortcut = (
            nn.Identity()
            if same_shape
            else nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False),
                nn.BatchNorm2d(channels_out),
            )
        )

    def forward(self, input: Float[Tensor, "batch channel h w"]) -> Float[Tensor, "batch channel h w"]:
        return torch.relu(self.residual(input) + self.shortcut(input))


def _digits_cnn() -> nn.Module:
    """A convolutional network for 8x8 grey images, (batch, 1, 8, 8) to (batch, 128)."""
    return nn.Sequential(
        *_convolution(1, 32, stride=1),
        *_convolution(32, 64, stride=2),
        *_convolution(64, ENCODER_FACTS["digits_cnn"].dim, stride=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def _convolution(channels_in: int, channels_out: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    ]


IMAGE_ENCODERS: dict[EncoderKind, Callable[[], nn.Module]] = {
    "resnet34": _resnet34,
    "resnet8": _resnet8,
    "digits_cnn": _digits_cnn,
}
