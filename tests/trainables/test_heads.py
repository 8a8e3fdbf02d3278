from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from trainables.config import HeadConfig, HeadKind
from trainables.heads import HEADS, LEAKY_SLOPE, build_head

DIM = 8
SEEDS = st.integers(0, 2**31)
DEPTHS = st.integers(1, 4)
WIDTH_RATIOS = st.sampled_from([0.05, 0.5, 1.0, 2.0, 3.3])


def count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def is_monotone(head: nn.Module, low: Tensor, high: Tensor) -> bool:
    with torch.no_grad():
        return bool((head(high) >= head(low)).all())


def float64_head(kind: HeadKind, seed: int, depth: int = 1, width_ratio: float = 2.0) -> nn.Module:
    torch.manual_seed(seed)
    return build_head(HeadConfig(kind=kind, depth=depth, width_ratio=width_ratio), DIM).double()


def ordered_inputs(seed: int) -> tuple[Tensor, Tensor]:
    """Batches with low <= high, equal in about half of the coordinates."""
    source = torch.Generator().manual_seed(seed)
    low = torch.randn(32, DIM, generator=source, dtype=torch.float64)
    step = torch.rand(32, DIM, generator=source, dtype=torch.float64)
    moves = torch.rand(32, DIM, generator=source) < 0.5
    return low, low + step * moves


def test_every_head_kind_is_registered() -> None:
    assert set(HEADS) == set(get_args(HeadKind))


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("depth", [1, 3])
def test_head_keeps_shape_and_trains_every_parameter(kind: HeadKind, depth: int) -> None:
    head = float64_head(kind, seed=0, depth=depth, width_ratio=0.5)
    items = torch.randn(4, DIM, dtype=torch.float64, requires_grad=True)
    output = head(items)
    output.square().sum().backward()
    assert output.shape == items.shape and output.dtype == items.dtype
    for tensor in [items, *head.parameters()]:
        assert tensor.grad is not None and tensor.grad.isfinite().all() and tensor.grad.any()


@pytest.mark.parametrize("kind", HEADS)
def test_head_treats_items_independently(kind: HeadKind) -> None:
    head = float64_head(kind, seed=0, depth=2)
    items = torch.randn(6, DIM, dtype=torch.float64)
    alone = torch.cat([head(item[None]) for item in items])
    torch.testing.assert_close(head(items), alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", HEADS)
def test_head_is_a_function_of_the_seed(kind: HeadKind) -> None:
    first = float64_head(kind, seed=3).state_dict()
    again = float64_head(kind, seed=3).state_dict()
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)


@settings(deadline=None, max_examples=60)
@given(seed=SEEDS, depth=DEPTHS, width_ratio=WIDTH_RATIOS)
def test_monotonic_head_keeps_the_order_of_inputs(seed: int, depth: int, width_ratio: float) -> None:
    head = float64_head("monotonic", seed, depth, width_ratio)
    low, high = ordered_inputs(seed)
    rise = head(high) - head(low)
    assert rise.min() >= -1e-12
    assert rise.max() > 0


@settings(deadline=None, max_examples=60)
@given(seed=SEEDS, depth=DEPTHS, width_ratio=WIDTH_RATIOS)
def test_monotonic_head_is_convex(seed: int, depth: int, width_ratio: float) -> None:
    head = float64_head("monotonic", seed, depth, width_ratio)
    a, b = torch.randn(2, 32, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    chord = (head(a) + head(b)) / 2
    assert (chord - head((a + b) / 2)).min() >= -1e-12


def test_monotonic_head_stays_monotone_whatever_its_parameters() -> None:
    head = float64_head("monotonic", seed=0, depth=2)
    low, high = ordered_inputs(seed=0)
    for scale in (-3.0, -0.5, 3.0):
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.normal_(mean=scale)
        rise = head(high) - head(low)
        assert (rise / rise.abs().max()).min() >= -1e-12


def test_is_monotone_tells_monotonic_from_mlp() -> None:
    low, high = ordered_inputs(seed=0)
    found = {
        kind: [is_monotone(float64_head(kind, seed), low, high) for seed in range(5)] for kind in HEADS
    }
    assert found == {"none": [True] * 5, "monotonic": [True] * 5, "mlp": [False] * 5}


@pytest.mark.parametrize("kind", ["mlp", "monotonic"])
def test_head_equals_its_equation(kind: HeadKind) -> None:
    # Paper, section 3.2: linear maps (monotonic: squared weights), LeakyReLU after hidden ones only.
    head = float64_head(kind, seed=1, depth=2)
    items = torch.randn(5, DIM, dtype=torch.float64)
    parameters, expected = list(head.parameters()), items
    for layer, (weight, bias) in enumerate(zip(parameters[::2], parameters[1::2], strict=True)):
        if layer > 0:
            expected = torch.where(expected > 0, expected, LEAKY_SLOPE * expected)
        expected = expected @ (weight**2 if kind == "monotonic" else weight).T + bias
    torch.testing.assert_close(head(items), expected, rtol=1e-12, atol=1e-12)


def test_none_is_the_identity() -> None:
    head = build_head(HeadConfig(kind="none", depth=3), DIM)
    items = torch.randn(4, DIM)
    assert torch.equal(head(items), items)
    assert count_parameters(head) == 0


@pytest.mark.parametrize("kind", ["mlp", "monotonic"])
def test_number_of_parameters_at_width_512_is_the_papers(kind: HeadKind) -> None:
    # 512 * 1024 + 1024 + 1024 * 512 + 512.
    head = build_head(HeadConfig(kind=kind, depth=1, width_ratio=2.0), 512)
    assert count_parameters(head) == 1_050_112


@pytest.mark.parametrize("kind", ["mlp", "monotonic"])
@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("ratio", [0.01, 0.3, 2.0])
def test_number_of_parameters_follows_depth_and_width(kind: HeadKind, depth: int, ratio: float) -> None:
    width = max(1, round(ratio * DIM))
    head = build_head(HeadConfig(kind=kind, depth=depth, width_ratio=ratio), DIM)
    hidden = (DIM + 1) * width + (depth - 1) * (width + 1) * width
    assert count_parameters(head) == hidden + (width + 1) * DIM


@pytest.mark.parametrize("kind", ["mlp", "monotonic"])
def test_initial_raw_parameters_are_those_of_nn_linear(kind: HeadKind) -> None:
    torch.manual_seed(5)
    head = build_head(HeadConfig(kind=kind, depth=2), DIM)
    torch.manual_seed(5)
    layers = [nn.Linear(DIM, 2 * DIM), nn.Linear(2 * DIM, 2 * DIM), nn.Linear(2 * DIM, DIM)]
    expected = [parameter for layer in layers for parameter in layer.parameters()]
    for got, reference in zip(head.parameters(), expected, strict=True):
        assert torch.equal(got, reference)


def test_untrained_monotonic_head_averages_its_inputs() -> None:
    # A mean cosine near 1 before training; the mlp's is far from it.
    torch.manual_seed(0)
    items = torch.randn(64, 128)
    cosines = {}
    for kind in ("mlp", "monotonic"):
        output = functional.normalize(build_head(HeadConfig(kind=kind), 128)(items), dim=1).detach()
        cosines[kind] = float((output @ output.T).mean())
    assert cosines["monotonic"] > 0.9 > 0.5 > cosines["mlp"]
