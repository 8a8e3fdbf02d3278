from __future__ import annotations

import pytest
import torch
from scipy import stats

from trainables.metrics import rank_correlation, spearman, spectrum
from trainables.models import Features
from trainables.sentences import SentenceDataset, SentencePairs, Sentences
from trainables.similarity_evaluation import (
    Parts,
    evaluate_similarity,
    truncation_curve,
    truncations,
)

DIM = 12


def pairs_of(number: int, seed: int, scores: bool) -> SentencePairs:
    """Forty pairs of that many sentences, none twice: cosines have no ties for rounding to break."""
    draw = torch.Generator().manual_seed(seed)
    items = Sentences(
        torch.zeros(number, dtype=torch.int32), torch.arange(number), torch.ones(number).long(), 0
    )
    every = torch.combinations(torch.arange(number))
    first, second = every[torch.randperm(len(every), generator=draw)[:40]].T
    known = torch.rand(40, dtype=torch.float64, generator=draw) if scores else None
    return SentencePairs(items, first, second, known)


def features_of(number: int, seed: int, rank: int = DIM) -> Features:
    """Outputs whose embeddings lie in `rank` dimensions, up to noise."""
    draw = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(DIM, DIM, generator=torch.Generator().manual_seed(99))).Q[
        :, :rank
    ]
    projected = torch.randn(number, rank, generator=draw) @ basis.T
    projected += 1e-4 * torch.randn(number, DIM, generator=draw)
    return Features(projected, projected, torch.nn.functional.normalize(projected, dim=1))


@pytest.fixture
def dataset() -> SentenceDataset:
    return SentenceDataset(pairs_of(60, 0, False), pairs_of(30, 1, True), pairs_of(35, 2, True))


def parts_of(seed: int, rank: int) -> Parts:
    return Parts(*(features_of(number, seed + k, rank) for k, number in enumerate((60, 30, 35))))


def test_spearman_is_scipys_on_cosines() -> None:
    draw = torch.Generator().manual_seed(0)
    one, other = (torch.randn(50, 7, generator=draw) for _ in range(2))
    scores = torch.randint(6, (50,), generator=draw).double()
    cosines = torch.nn.functional.cosine_similarity(one.double(), other.double())
    expected = stats.spearmanr(cosines.numpy(), scores.numpy())
    assert spearman(one, other, scores) == pytest.approx(expected[0], abs=1e-12)


def test_spearman_of_nearly_equal_vectors_is_exact() -> None:
    """As a monotonic head begins: cosines within 1e-8 of 1."""
    draw = torch.Generator().manual_seed(0)
    offsets = torch.randn(50, 7, generator=draw, dtype=torch.float64) * 1e-5
    base = torch.ones(50, 7, dtype=torch.float64)
    distances = (torch.nn.functional.normalize(base + offsets, dim=1) - base / 7**0.5).norm(dim=1)
    assert spearman(base + offsets, base, -distances) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("constant", ["values", "scores"])
def test_constant_side_correlates_with_nothing(constant: str) -> None:
    same, varied = torch.ones(5), torch.arange(5.0)
    values, scores = (same, varied) if constant == "values" else (varied, same)
    assert rank_correlation(values, scores) == 0.0


def test_all_components_rank_as_the_whole_embeddings_do(dataset: SentenceDataset) -> None:
    vectors = features_of(35, 7).embedding
    pairs = dataset.test
    assert pairs.scores is not None
    (row,) = truncations(vectors, pairs, spectrum(features_of(60, 8).embedding), [DIM])
    whole = spearman(vectors[pairs.first], vectors[pairs.second], pairs.scores)
    assert row.spearman_euclidean == pytest.approx(whole, abs=1e-9)
    assert row.reconstruction_error == pytest.approx(0, abs=1e-12)


def test_truncation_is_that_of_projected_vectors(dataset: SentenceDataset) -> None:
    vectors, components = features_of(35, 7).embedding, spectrum(features_of(60, 8).embedding)
    pairs = dataset.test
    (row,) = truncations(vectors, pairs, components, [3])
    coordinates = (vectors.double() - components.mean) @ components.components[:, :3]
    restored = coordinates @ components.components[:, :3].T + components.mean
    assert pairs.scores is not None
    one, other = coordinates[pairs.first], coordinates[pairs.second]
    cosines = torch.nn.functional.cosine_similarity(one, other)
    assert row.spearman_cosine == pytest.approx(stats.spearmanr(cosines, pairs.scores)[0], abs=1e-9)
    error = (vectors.double() - restored).square().mean().sqrt()
    assert row.reconstruction_error == pytest.approx(float(error), rel=1e-9)


def test_curve_is_that_of_the_truncations_at_every_size(dataset: SentenceDataset) -> None:
    vectors, components = features_of(35, 7).embedding, spectrum(features_of(60, 8).embedding)
    curve = truncation_curve(vectors, dataset.test, components)
    reference = truncations(vectors, dataset.test, components, range(1, DIM + 1))
    assert [point.components for point in curve] == list(range(1, DIM + 1))
    for point, expected in zip(curve, reference, strict=True):
        assert point.spearman_cosine == expected.spearman_cosine
        assert point.spearman_euclidean == pytest.approx(expected.spearman_euclidean, abs=1e-12)


def test_curve_by_dot_is_scipys_on_inner_products(dataset: SentenceDataset) -> None:
    vectors, components = features_of(35, 7).embedding, spectrum(features_of(60, 8).embedding)
    pairs = dataset.test
    assert pairs.scores is not None
    for point in truncation_curve(vectors, pairs, components):
        basis = components.components[:, : point.components]
        some = (vectors.double() - components.mean) @ basis
        products = (some[pairs.first] * some[pairs.second]).sum(dim=1)
        expected = stats.spearmanr(products, pairs.scores)[0]
        assert point.spearman_dot == pytest.approx(expected, abs=1e-12)
        assert point.num_pairs == 40


def test_model_stands_beside_the_untouched_encoder_cut_down_alike(dataset: SentenceDataset) -> None:
    model, untouched = parts_of(10, rank=4), parts_of(20, rank=DIM)
    result = evaluate_similarity(dataset, model, untouched)
    d_eff = int(result.metrics["test_d_eff"])
    assert d_eff == 4
    rows = {row.components: row for row in result.untouched}
    assert set(rows) == {8, d_eff, DIM} and {row.components for row in result.truncations} == {8, d_eff}
    alike = max(rows[d_eff].spearman_cosine, rows[d_eff].spearman_euclidean)
    assert result.metrics["test_untouched_pca_spearman"] == alike
    pairs, vectors = dataset.test, untouched.test.embedding
    assert pairs.scores is not None
    whole = spearman(vectors[pairs.first], vectors[pairs.second], pairs.scores)
    assert result.metrics["test_untouched_spearman"] == whole
    assert set(result.spectra) == set(result.correlations) == {
        "encoder", "unnormalized", "embedding", "untouched"
    }  # fmt: skip


def test_errors_are_of_test_sentences_on_components_of_training_sentences(
    dataset: SentenceDataset,
) -> None:
    model = parts_of(10, rank=4)
    result = evaluate_similarity(dataset, model, parts_of(20, rank=DIM))
    components = spectrum(model.training.embedding)
    centred = model.test.embedding.double() - components.mean
    basis = components.components[:, :4]
    residual = centred - centred @ basis @ basis.T
    expected = residual.square().mean().sqrt()
    assert result.metrics["test_reconstruction_error"] == pytest.approx(float(expected), rel=1e-6)
