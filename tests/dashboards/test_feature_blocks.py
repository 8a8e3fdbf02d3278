from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboards.feature_blocks import feature_blocks


def perfect_blocks(*sizes: int, seed: int = 0) -> np.ndarray:
    """Features that are equal within their block and have nothing in common across, shuffled."""
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    return (labels[:, None] == labels).astype(float)


def correlations(num_features: int, seed: int) -> np.ndarray:
    source = np.random.default_rng(seed)
    return np.asarray(np.corrcoef(source.normal(size=(num_features, num_features // 2 + 3))))


def by_definition(matrix: np.ndarray, labels: np.ndarray) -> float:
    """Newman's modularity with weights r², term by term."""
    weights = matrix**2 - np.eye(len(matrix))
    strengths, total = weights.sum(axis=1), weights.sum()
    pairs = [(i, j) for i in range(len(matrix)) for j in range(len(matrix)) if labels[i] == labels[j]]
    return sum(weights[i, j] - strengths[i] * strengths[j] / total for i, j in pairs) / total


@pytest.mark.parametrize("num_blocks", [1, 2, 5, 10])
def test_equal_blocks_have_the_modularity_of_their_number(num_blocks: int) -> None:
    blocks = feature_blocks(perfect_blocks(*[6] * num_blocks))
    assert blocks.modularity == pytest.approx(1 - 1 / num_blocks)
    assert blocks.num_blocks == num_blocks
    assert blocks.sizes().tolist() == [6] * num_blocks


def test_sign_of_a_correlation_does_not_part_features() -> None:
    signs = np.where(np.arange(12) % 2, -1, 1)
    matrix = perfect_blocks(6, 6)
    assert feature_blocks(matrix * np.outer(signs, signs)).modularity == pytest.approx(0.5)


def test_features_with_nothing_in_common_are_no_blocks() -> None:
    blocks = feature_blocks(np.eye(7))
    assert (blocks.modularity, blocks.rms, blocks.num_blocks) == (0, 0, 7)


def test_independent_features_have_little_modularity() -> None:
    samples = np.random.default_rng(0).normal(size=(5000, 60))
    blocks = feature_blocks(np.asarray(np.corrcoef(samples, rowvar=False)))
    assert 0 < blocks.modularity < 0.15
    assert blocks.rms == pytest.approx(5000**-0.5, rel=0.05)


def test_order_keeps_blocks_together() -> None:
    matrix = perfect_blocks(3, 5, 9, seed=4)
    ordered = matrix[np.ix_(blocks := feature_blocks(matrix).order, blocks)]
    assert np.abs(np.diff(ordered[0])).sum() <= 1
    assert sorted(feature_blocks(matrix).sizes()) == [3, 5, 9]


@settings(deadline=None, max_examples=50)
@given(num_features=st.integers(2, 14), seed=st.integers(0, 10**6))
def test_modularity_is_that_of_the_definition_and_no_cut_has_more(num_features: int, seed: int) -> None:
    from scipy.cluster import hierarchy

    matrix = correlations(num_features, seed)
    blocks = feature_blocks(matrix)
    assert blocks.modularity == pytest.approx(by_definition(matrix, blocks.labels))
    for num_clusters in range(1, num_features + 1):
        cut = hierarchy.cut_tree(blocks.merges, num_clusters)[:, 0]
        assert by_definition(matrix, cut) <= blocks.modularity + 1e-12


@pytest.mark.parametrize("dim", [1, 2])
def test_few_features_have_blocks(dim: int) -> None:
    blocks = feature_blocks(np.ones((dim, dim)))
    assert (blocks.num_blocks, blocks.modularity, blocks.rms) == (1, 0, dim - 1)
    assert blocks.sizes().tolist() == [dim]
