import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from short_trials import digits_trial
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor
from torch.nn import functional

from trainables.config import DataConfig, HeadConfig
from trainables.images import load_images
from trainables.metrics import (
    effective_dimension,
    evaluate,
    knn_accuracy,
    knn_votes,
    nearest_labels,
    recalls,
    reconstruction_errors,
    spectrum,
)
from trainables.models import build_model
from trainables.reports import VARIANCE_SHARES
from trainables.validation import embed

SEEDS = st.integers(0, 2**31)


def gaussian(num: int, dim: int, seed: int) -> Tensor:
    """Vectors whose variances fall by a third from one coordinate to the next, off the origin."""
    source = torch.Generator().manual_seed(seed)
    scale = 0.66 ** torch.arange(dim, dtype=torch.float64)
    return torch.randn(num, dim, generator=source, dtype=torch.float64) * scale + 0.3


def unit(num: int, dim: int, seed: int) -> Tensor:
    return functional.normalize(gaussian(num, dim, seed), dim=1)


def some_labels(num: int, num_labels: int, seed: int) -> Tensor:
    return torch.randint(num_labels, (num,), generator=torch.Generator().manual_seed(seed))


def rotation(dim: int, seed: int) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(dim, dim, generator=source, dtype=torch.float64)).Q


@settings(deadline=None, max_examples=25)
@given(seed=SEEDS, num_labels=st.integers(1, 8))
def test_knn_accuracy_is_that_of_scikit_learn(seed: int, num_labels: int) -> None:
    gallery, queries = unit(60, 6, seed), unit(40, 6, seed + 1)
    gallery_labels, labels = some_labels(60, num_labels, seed), some_labels(40, num_labels, seed + 1)
    reference = KNeighborsClassifier(n_neighbors=5).fit(gallery.numpy(), gallery_labels.numpy())
    predicted = reference.predict(queries.numpy())
    neighbours = nearest_labels(queries, gallery, gallery_labels)
    assert knn_accuracy(neighbours, torch.tensor(predicted)) == 1.0
    assert knn_accuracy(neighbours, labels) == np.mean(predicted == labels.numpy())


@pytest.mark.parametrize(
    ("neighbours", "winner"),
    [
        ([2, 2, 1, 1, 0], 1),
        ([1, 1, 2, 2, 0], 1),
        ([7, 3, 9, 4, 5], 3),
        ([0, 9, 9, 1, 2], 9),
        ([4, 4, 4, 4, 4], 4),
        ([0, 0, 5, 5, 5], 5),
    ],
)
def test_vote_goes_to_the_most_frequent_then_smallest_label(neighbours: list[int], winner: int) -> None:
    farther = [8] * 15
    others = torch.tensor([label for label in range(10) if label != winner])
    found = torch.tensor([neighbours + farther])
    assert knn_accuracy(found, torch.tensor([winner])) == 1.0
    assert knn_accuracy(found.expand(len(others), -1), others) == 0.0


def test_tied_votes_are_resolved_as_in_scikit_learn() -> None:
    # Labels of the gallery from near to far; five votes of which the two best tie.
    gallery = functional.normalize(torch.tensor([[1.0, 0.1 * i] for i in range(6)]), dim=1)
    labels = torch.tensor([3, 2, 2, 3, 1, 0])
    query = torch.tensor([[1.0, 0.0]])
    reference = KNeighborsClassifier(n_neighbors=5).fit(gallery.numpy(), labels.numpy())
    assert reference.predict(query.numpy()).tolist() == [2]
    assert knn_accuracy(nearest_labels(query, gallery, labels), torch.tensor([2])) == 1.0


@settings(deadline=None, max_examples=15)
@given(seed=SEEDS, num_gallery=st.sampled_from([7, 20, 50]), num_labels=st.integers(1, 30))
def test_recalls_equal_a_search_query_by_query(seed: int, num_gallery: int, num_labels: int) -> None:
    gallery, queries = unit(num_gallery, 6, seed), unit(30, 6, seed + 1)
    gallery_labels = some_labels(num_gallery, num_labels, seed)
    labels = some_labels(30, num_labels, seed + 1)
    got = recalls(nearest_labels(queries, gallery, gallery_labels), labels)
    for k in range(1, 21):
        hits = 0
        for query, label in zip(queries, labels, strict=True):
            by_distance = torch.linalg.vector_norm(gallery - query, dim=1).argsort()
            hits += int(label in gallery_labels[by_distance[:k]])
        assert got[f"recall_at_{k}"] == pytest.approx(hits / 30, abs=1e-12)


def test_neighbours_of_many_queries_equal_those_of_each_alone() -> None:
    # 2,100 queries: more than two chunks of 1,024.
    gallery, queries = unit(50, 6, seed=0), unit(2100, 6, seed=1)
    labels = torch.arange(50)
    got = nearest_labels(queries, gallery, labels)
    expected = torch.cdist(queries, gallery, compute_mode="donot_use_mm_for_euclid_dist").argsort(dim=1)
    assert torch.equal(got, expected[:, :20])


@settings(deadline=None, max_examples=25)
@given(seed=SEEDS, dim=st.integers(2, 20), share=st.sampled_from([0.5, 0.9, 0.95, 0.99, 0.999]))
def test_number_of_components_is_that_of_scikit_learn(seed: int, dim: int, share: float) -> None:
    vectors = unit(50, dim, seed)
    ratios = PCA(svd_solver="full").fit(vectors.numpy()).explained_variance_ratio_
    expected = int(np.argmax(np.cumsum(ratios) >= share)) + 1
    assert spectrum(vectors).num_components(share) == expected


def test_spectrum_is_that_of_scikit_learn() -> None:
    vectors = gaussian(200, 12, seed=0)
    reference = PCA(svd_solver="full").fit(vectors.numpy())
    got = spectrum(vectors)
    np.testing.assert_allclose(got.mean, reference.mean_, rtol=1e-12)
    np.testing.assert_allclose(got.variances, reference.explained_variance_, rtol=1e-9)
    cosines = (torch.tensor(reference.components_) * got.components.T).sum(dim=1).abs()
    np.testing.assert_allclose(cosines, np.ones(12), rtol=1e-9)


def test_spectrum_of_float32_vectors_is_computed_in_float64() -> None:
    vectors = gaussian(200, 12, seed=0).float()
    got, expected = spectrum(vectors), spectrum(vectors.double())
    assert got.variances.dtype == got.components.dtype == got.mean.dtype == torch.float64
    torch.testing.assert_close(got.variances, expected.variances, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(got.mean, expected.mean, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("num_dimensions", [1, 3, 14, 32])
def test_d_eff_of_equal_variance_in_r_dimensions_is_r(num_dimensions: int) -> None:
    axes = torch.eye(32, dtype=torch.float64)[:num_dimensions]
    vectors = torch.cat([axes, -axes]) @ rotation(32, seed=0)
    assert effective_dimension(vectors) == num_dimensions
    assert effective_dimension(vectors.float()) == num_dimensions


def test_d_eff_counts_components_up_to_exactly_99_percent() -> None:
    # Variances 0.75 + 0.25: one component holds 75 %; 0.995 + 0.005: one holds 99.5 %.
    axes = torch.eye(2, dtype=torch.float64)
    three_quarters = torch.cat([axes, -axes]) * torch.tensor([3**0.5, 1.0], dtype=torch.float64)
    nearly_all = torch.cat([axes, -axes]) * torch.tensor([199**0.5, 1.0], dtype=torch.float64)
    assert effective_dimension(three_quarters) == 2.0
    assert effective_dimension(nearly_all) == 1.0
    assert spectrum(nearly_all).num_components(0.999) == 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_d_eff_of_identical_vectors_is_1(dtype: torch.dtype) -> None:
    vectors = unit(1, 16, seed=0).to(dtype).expand(30, -1)
    found = spectrum(vectors)
    assert effective_dimension(vectors) == 1.0
    assert [found.num_components(share) for share in VARIANCE_SHARES.values()] == [1, 1, 1, 1]


@settings(deadline=None, max_examples=20)
@given(seed=SEEDS)
def test_variances_do_not_change_under_rotation_and_shift(seed: int) -> None:
    vectors = gaussian(80, 10, seed)
    moved = vectors @ rotation(10, seed + 1) + 1.7
    expected = spectrum(vectors).variances
    torch.testing.assert_close(spectrum(moved).variances, expected, rtol=1e-9, atol=1e-14)


def test_spectrum_does_not_depend_on_chunks() -> None:
    # 17,000 rows: more than two chunks of 8,192.
    vectors = gaussian(17_000, 6, seed=0)
    expected = np.linalg.eigvalsh(np.cov(vectors.numpy().T))[::-1]
    np.testing.assert_allclose(spectrum(vectors).variances, expected, rtol=1e-10)
    order = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(spectrum(vectors[order]).variances, spectrum(vectors).variances)


@settings(deadline=None, max_examples=10)
@given(seed=SEEDS)
def test_reconstruction_errors_are_those_of_scikit_learn(seed: int) -> None:
    training, test = unit(90, 12, seed), unit(40, 12, seed + 1)
    got = reconstruction_errors(test, spectrum(training))
    reference = PCA(svd_solver="full").fit(training.numpy())
    coordinates = reference.transform(test.numpy())
    variance = ((test.numpy() - reference.mean_) ** 2).sum()
    for k in range(13):
        kept = np.where(np.arange(12) < k, coordinates, 0.0)
        squares = (reference.inverse_transform(kept) - test.numpy()) ** 2
        assert float(got.absolute[k]) == pytest.approx(squares.mean() ** 0.5, rel=1e-6, abs=1e-14)
        assert float(got.relative[k]) == pytest.approx(squares.sum() / variance, rel=1e-6, abs=1e-14)


def test_small_reconstruction_errors_are_not_noise() -> None:
    # All but the first of 8 dimensions vary by 1e-7 only: float32 would see nothing of it.
    vectors = gaussian(100, 8, seed=0) * torch.tensor([1.0] + [1e-7] * 7, dtype=torch.float64)
    got = reconstruction_errors(vectors, spectrum(vectors)).absolute[1]
    left = np.linalg.svd((vectors - vectors.mean(dim=0)).numpy(), compute_uv=False)[1:]
    assert float(got) == pytest.approx(((left**2).sum() / vectors.numel()) ** 0.5, rel=1e-6)
    assert 1e-9 < float(got) < 1e-7


def test_reconstruction_error_of_many_vectors_is_the_mean_over_their_parts() -> None:
    # 10,000 rows: more than one chunk of 8,192.
    basis, vectors = spectrum(unit(200, 6, seed=0)), unit(10_000, 6, seed=1)
    halves = [reconstruction_errors(half, basis).absolute.square() for half in vectors.split(5000)]
    got = reconstruction_errors(vectors, basis).absolute
    torch.testing.assert_close(got, ((halves[0] + halves[1]) / 2).sqrt(), rtol=1e-10, atol=1e-14)


def test_reconstruction_error_of_identical_vectors_is_0() -> None:
    vectors = unit(1, 8, seed=0).expand(20, -1)
    errors = reconstruction_errors(vectors, spectrum(vectors))
    assert float(errors.absolute.max()) < 1e-15
    assert errors.relative.isfinite().all()


def test_evaluate_takes_the_errors_at_d_eff_components() -> None:
    gallery, queries = unit(90, 12, seed=0), unit(40, 12, seed=1)
    labels, query_labels = some_labels(90, 5, seed=0), some_labels(40, 5, seed=1)
    metrics = evaluate(gallery, labels, queries, query_labels)
    reference = PCA(n_components=int(metrics["d_eff"]), svd_solver="full").fit(gallery.numpy())
    squares = (reference.inverse_transform(reference.transform(queries.numpy())) - queries.numpy()) ** 2
    assert metrics["reconstruction_error"] == pytest.approx(squares.mean() ** 0.5, rel=1e-6)
    assert metrics["d_eff_90"] <= metrics["d_eff_95"] <= metrics["d_eff"] <= metrics["d_eff_999"]
    assert metrics["knn_accuracy"] == knn_accuracy(
        nearest_labels(queries, gallery, labels), query_labels
    )


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("width_ratio", [0.5, 2.0])
def test_collapsed_embeddings_are_voted_on_as_by_scikit_learn(depth: int, width_ratio: float) -> None:
    # A monotonic head before training: all cosines within 1e-6 of 1.
    head = HeadConfig(kind="monotonic", depth=depth, width_ratio=width_ratio)
    dataset = load_images("digits", DataConfig(), torch.device("cpu"))
    model = build_model(digits_trial(head=head))
    gallery = embed(model, dataset.training).embedding
    queries = embed(model, dataset.validation).embedding
    votes = knn_votes(nearest_labels(queries, gallery, dataset.training.labels))
    exact = torch.cdist(queries.double(), gallery.double(), compute_mode="donot_use_mm_for_euclid_dist")
    expected = knn_votes(dataset.training.labels[exact.argsort(dim=1, stable=True)[:, :20]])
    assert (votes != expected).sum() <= 1
