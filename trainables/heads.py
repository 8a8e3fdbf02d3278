"""The heads between encoder and embedding: none, mlp, monotonic (paper, section 3.2).

Called by `trainables.models.build_model`. A new kind is one function in HEADS and its name in
`trainables.config.HeadKind`.
"""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from trainables.config import HeadConfig, HeadKind

LEAKY_SLOPE = 0.01


class SquaredLinear(nn.Linear):
    """A linear map whose weights enter squared, so that no output falls when an input rises.

    The parameters are initialised as `nn.Linear`'s and the bias is unconstrained.
    """

    def forward(self, input: Float[Tensor, "batch in"]) -> Float[Tensor, "batch out"]:
        return functional.linear(input, self.weight.square(), self.bias)


def build_head(config: HeadConfig, dim: int) -> nn.Module:
    """Builds the head of `config`: (batch, dim) to (batch, dim), not yet normalised."""
    return HEADS[config.kind](config, dim)


def _none(config: HeadConfig, dim: int) -> nn.Module:
    return nn.Identity()


def _mlp(config: HeadConfig, dim: int) -> nn.Module:
    return _perceptron(nn.Linear, config, dim)


def _monotonic(config: HeadConfig, dim: int) -> nn.Module:
    return _perceptron(SquaredLinear, config, dim)


def _perceptron(linear: type[nn.Linear], config: HeadConfig, dim: int) -> nn.Sequential:
    width = max(1, round(config.width_ratio * dim))
    layers: list[nn.Module] = []
    width_in = dim
    for _ in range(config.depth):
        layers += [linear(width_in, width), nn.LeakyReLU(LEAKY_SLOPE)]
        width_in = width
    return nn.Sequential(*layers, linear(width_in, dim))


HEADS: dict[HeadKind, Callable[[HeadConfig, int], nn.Module]] = {
    "none": _none,
    "mlp": _mlp,
    "monotonic": _monotonic,
}
