import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainables.metrics import correlation_matrix, correlation_rms, top_product_labels

SEEDS = st.integers(0, 2**31)


def normal(num: int, dim: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(num, dim, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def mixed(num: int, dim: int, seed: int) -> Tensor:
    """Correlated features of unlike scales and means."""
    mixing = normal(dim, dim, seed + 1)
    return (normal(num, dim, seed) @ mixing) * torch.logspace(-3, 3, dim) + torch.arange(dim)


@settings(deadline=None, max_examples=25)
@given(seed=SEEDS, dim=st.integers(2, 9))
def test_correlations_are_numpys(seed: int, dim: int) -> None:
    vectors = mixed(50, dim, seed)
    expected = np.corrcoef(vectors.double().numpy(), rowvar=False)
    got = correlation_matrix(vectors)
    assert got.dtype == torch.float64
    np.testing.assert_allclose(got.numpy(), expected, rtol=0, atol=1e-10)


def test_correlations_ignore_scale_and_mean() -> None:
    vectors = normal(40, 5, dtype=torch.float64)
    moved = vectors * torch.tensor([1e-6, 3.0, 1e6, -2.0, 0.5], dtype=torch.float64) - 0.25
    signs = torch.tensor([1, 1, 1, -1, 1], dtype=torch.float64)
    expected = correlation_matrix(vectors) * signs[:, None] * signs[None, :]
    torch.testing.assert_close(correlation_matrix(moved), expected, rtol=0, atol=1e-9)


def test_copies_are_correlated_by_1_and_mirror_images_by_minus_1() -> None:
    feature = normal(1000, 1)
    matrix = correlation_matrix(torch.cat([feature, feature, -2 * feature, 4 * feature + 1], dim=1))
    signs = torch.tensor([1.0, 1.0, -1.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(matrix, signs[:, None] * signs, rtol=0, atol=1e-12)
    assert float(matrix.abs().max()) == 1.0


def test_diagonal_is_exactly_1() -> None:
    vectors = torch.cat([mixed(30, 6, 3), torch.full((30, 1), 0.3), torch.zeros(30, 1)], dim=1)
    assert torch.equal(correlation_matrix(vectors).diagonal(), torch.ones(8, dtype=torch.float64))


@pytest.mark.parametrize("value", [0.0, 0.1, -3.0, 1e-30, 1e30])
def test_constant_features_are_uncorrelated(value: float) -> None:
    constant = torch.full((100, 3), value)
    matrix = correlation_matrix(torch.cat([constant, normal(100, 2)], dim=1))
    assert torch.equal(matrix[:3], torch.eye(5, dtype=torch.float64)[:3])
    assert torch.equal(matrix[:, :3], torch.eye(5, dtype=torch.float64)[:, :3])


@pytest.mark.parametrize("value", [1.0, 0.044, 1e-20, -700.0])
def test_rounding_noise_around_a_constant_is_no_correlation(value: float) -> None:
    # The same last bit flips in both features: numpy finds a correlation of 1.
    constant = torch.full((64, 2), value)
    constant[::2] = torch.nextafter(constant[::2], torch.tensor(torch.inf))
    assert np.corrcoef(constant.double().numpy(), rowvar=False)[0, 1] == pytest.approx(1.0)
    assert torch.equal(correlation_matrix(constant), torch.eye(2, dtype=torch.float64))


def test_small_variation_on_a_large_mean_still_counts() -> None:
    # 100 units in the last place of 1: well above rounding.
    feature = 1 + 1.2e-5 * normal(500, 1)
    assert float(correlation_matrix(torch.cat([feature, -feature], dim=1))[0, 1]) < -0.999


def test_rms_of_copies_is_1_and_of_orthogonal_features_0() -> None:
    feature = normal(200, 1)
    assert correlation_rms(feature.repeat(1, 7)) == pytest.approx(1.0, abs=1e-9)
    orthogonal = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    assert correlation_rms(orthogonal) == pytest.approx(0.0, abs=1e-7)


def test_rms_of_two_features_is_their_correlation() -> None:
    # Closed form: x and x + y of equal variances are correlated by 1 / sqrt(2).
    x, y = torch.tensor([1.0, 1, -1, -1]), torch.tensor([1.0, -1, 1, -1])
    assert correlation_rms(torch.stack([x, x + y], dim=1)) == pytest.approx(0.5**0.5, rel=1e-9)
    assert correlation_rms(torch.stack([x, -x - y], dim=1)) == pytest.approx(0.5**0.5, rel=1e-9)


def test_rms_is_over_the_different_pairs_only() -> None:
    # One pair of copies among 4 features: 2 of 12 off-diagonal entries are 1.
    x, y, z = (
        torch.tensor([1.0, 1, -1, -1]),
        torch.tensor([1.0, -1, 1, -1]),
        torch.tensor([1.0, -1, -1, 1]),
    )
    found = correlation_rms(torch.stack([x, x, y, z], dim=1))
    assert found == pytest.approx((2 / 12) ** 0.5, rel=1e-9)


@settings(deadline=None, max_examples=25)
@given(seed=SEEDS, dim=st.integers(2, 9))
def test_rms_is_that_of_the_matrix(seed: int, dim: int) -> None:
    vectors = mixed(30, dim, seed)
    matrix = np.corrcoef(vectors.double().numpy(), rowvar=False)
    others = matrix[~np.eye(dim, dtype=bool)]
    assert correlation_rms(vectors) == pytest.approx(np.sqrt(np.mean(others**2)), rel=1e-6)


def test_rms_of_features_that_do_not_vary_is_0() -> None:
    assert correlation_rms(torch.full((10, 4), 0.5)) == 0.0
    assert correlation_rms(normal(10, 1)) == 0.0
    assert correlation_rms(normal(1, 4)) == 0.0


@settings(deadline=None, max_examples=25)
@given(seed=SEEDS, k=st.integers(1, 30))
def test_top_products_are_those_of_brute_force(seed: int, k: int) -> None:
    gallery, queries = normal(20, 4, seed, torch.float64), normal(7, 4, seed + 1, torch.float64)
    labels = torch.arange(20)
    order = np.argsort(-(queries.numpy() @ gallery.numpy().T), axis=1)[:, :k]
    assert np.array_equal(top_product_labels(queries, gallery, labels, k).numpy(), order)


def test_top_products_are_found_across_chunks() -> None:
    gallery, queries = normal(30, 3, 1, torch.float64), normal(1500, 3, 2, torch.float64)
    labels = torch.arange(30) % 4
    expected = labels[(queries @ gallery.T).argsort(dim=1, descending=True)[:, :20]]
    assert torch.equal(top_product_labels(queries, gallery, labels), expected)


def test_largest_product_need_not_be_the_nearest() -> None:
    gallery, labels = torch.tensor([[1.0, 0.0], [3.0, 3.0]]), torch.tensor([4, 9])
    assert top_product_labels(torch.tensor([[1.0, 0.0]]), gallery, labels).tolist() == [[9, 4]]
