import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from trainables.losses import supcon_loss

LABELS = st.lists(st.integers(0, 3), min_size=1, max_size=12)
SEEDS = st.integers(0, 2**31)
TEMPERATURES = st.floats(0.03, 3.0)


def unit_vectors(num: int, seed: int, dim: int = 5) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(num, dim, generator=source, dtype=torch.float64), dim=1)


def equation_1(z: Tensor, labels: list[int], temperature: float) -> float:
    """The paper's Eq. 1, term by term, as a mean over all anchors."""
    total, items = 0.0, range(len(labels))
    for i in items:
        positives = [p for p in items if p != i and labels[p] == labels[i]]
        norm = sum(math.exp(float(z[i] @ z[a]) / temperature) for a in items if a != i)
        for p in positives:
            total -= math.log(math.exp(float(z[i] @ z[p]) / temperature) / norm) / len(positives)
    return total / len(labels)


@settings(deadline=None, max_examples=80)
@given(labels=LABELS, seed=SEEDS, temperature=TEMPERATURES)
def test_loss_equals_the_double_loop_over_equation_1(
    labels: list[int], seed: int, temperature: float
) -> None:
    z = unit_vectors(len(labels), seed)
    got = supcon_loss(z, torch.tensor(labels), temperature).loss
    assert float(got) == pytest.approx(equation_1(z, labels, temperature), rel=1e-10, abs=1e-12)


@settings(deadline=None, max_examples=30)
@given(labels=LABELS, seed=SEEDS, temperature=TEMPERATURES)
def test_float32_loss_equals_equation_1_to_float_accuracy(
    labels: list[int], seed: int, temperature: float
) -> None:
    z = unit_vectors(len(labels), seed)
    got = supcon_loss(z.float(), torch.tensor(labels), temperature).loss
    assert got.dtype == torch.float32
    assert float(got) == pytest.approx(equation_1(z, labels, temperature), rel=1e-5, abs=2e-5)


@settings(deadline=None, max_examples=30)
@given(labels=LABELS, seed=SEEDS)
def test_loss_ignores_the_order_of_the_batch(labels: list[int], seed: int) -> None:
    z, label_tensor = unit_vectors(len(labels), seed), torch.tensor(labels)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    straight = supcon_loss(z, label_tensor, 0.1)
    shuffled = supcon_loss(z[order], label_tensor[order], 0.1)
    torch.testing.assert_close(shuffled.loss, straight.loss, rtol=1e-12, atol=1e-12)
    assert shuffled.no_positive_share == straight.no_positive_share


@settings(deadline=None, max_examples=30)
@given(labels=LABELS)
def test_share_of_anchors_without_positive(labels: list[int]) -> None:
    result = supcon_loss(unit_vectors(len(labels), seed=0), torch.tensor(labels), 0.1)
    lonely = sum(labels.count(label) == 1 for label in labels)
    assert float(result.no_positive_share) == pytest.approx(lonely / len(labels), rel=1e-6)


def test_gradient_equals_finite_differences() -> None:
    z = torch.randn(7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 0, 1, 1, 1, 2, 0])

    def loss(z: Tensor) -> Tensor:
        return supcon_loss(functional.normalize(z, dim=1), labels, 0.3).loss

    assert torch.autograd.gradcheck(loss, z.requires_grad_())


@pytest.mark.parametrize("temperature", [1e-4, 0.1, 10.0])
def test_loss_of_equal_embeddings_is_the_log_of_the_number_of_others(temperature: float) -> None:
    # Every one of the B - 1 others is equally likely; similarities here reach 10,000.
    z = torch.full((9, 4), 0.5)
    loss = supcon_loss(z, torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2]), temperature).loss
    assert float(loss) == pytest.approx(math.log(8), abs=2e-3 if temperature < 0.1 else 1e-5)


def test_loss_of_collapsed_opposite_classes_is_the_log_of_the_number_of_positives() -> None:
    z = torch.tensor([[1.0, 0.0]] * 4 + [[-1.0, 0.0]] * 4)
    loss = supcon_loss(z, torch.tensor([0] * 4 + [1] * 4), 0.05).loss
    assert float(loss) == pytest.approx(math.log(3), abs=1e-5)


def test_low_temperature_keeps_loss_and_gradient_finite() -> None:
    z = unit_vectors(16, seed=0).float().requires_grad_()
    loss = supcon_loss(z, torch.arange(16) % 4, 1e-6).loss
    loss.backward()
    assert loss.isfinite() and loss > 1e3
    assert z.grad is not None and z.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_embeddings_are_compared_in_float32(dtype: torch.dtype) -> None:
    z, labels = unit_vectors(12, seed=0).to(dtype), torch.arange(12) % 3
    loss = supcon_loss(z, labels, 0.1).loss
    in_half = (z @ z.T / 0.1).double()
    exact = (z.double() @ z.double().T / 0.1).double()
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(equation_1(z.double(), labels.tolist(), 0.1), rel=1e-5)
    assert not torch.allclose(in_half, exact, rtol=1e-5)


@pytest.mark.parametrize("num", [1, 5])
def test_batch_of_lonely_anchors_has_no_loss_and_no_gradient(num: int) -> None:
    z = unit_vectors(num, seed=0).requires_grad_()
    result = supcon_loss(z, torch.arange(num), 0.1)
    result.loss.backward()
    assert float(result.loss.detach()) == 0.0 and float(result.no_positive_share) == 1.0
    assert z.grad is not None and torch.equal(z.grad, torch.zeros_like(z))
