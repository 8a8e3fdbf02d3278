from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn import functional

from trainables import truncation_curves as module
from trainables.evaluation import truncations
from trainables.metrics import spectrum
from trainables.truncation_curves import CurvePoint, truncation_curve


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    with threadpool_limits(1):
        yield


def draw(
    num: int, dim: int, seed: int, num_labels: int = 4, spread: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Unit vectors around as many centres as labels; those of a small spread are almost one vector."""
    centres = torch.randn(num_labels, dim, generator=torch.Generator().manual_seed(99))
    source = torch.Generator().manual_seed(seed)
    labels = torch.randint(num_labels, (num,), generator=source)
    vectors = centres[labels] + 1.5 * torch.randn(num, dim, generator=source)
    return functional.normalize(1 + spread * vectors, dim=1), labels


def by_brute_force(
    gallery: Tensor, labels: Tensor, queries: Tensor, query_labels: Tensor
) -> list[dict[str, float]]:
    """From the definitions, in float64: all scores of every k, sorted."""
    basis = spectrum(gallery)
    items, asked = (((v.double() - basis.mean) @ basis.components).numpy() for v in (gallery, queries))
    known, wanted = labels.numpy(), query_labels.numpy()
    found = []
    for k in range(1, gallery.shape[1] + 1):
        some, others = asked[:, None, :k], items[None, :, :k]
        dots = (some * others).sum(axis=2)
        scores = {
            "dot": dots,
            "cosine": dots / np.linalg.norm(others, axis=2) / np.linalg.norm(some, axis=2),
            "euclidean": -((some - others) ** 2).sum(axis=2),
        }
        ranked = {name: known[np.argsort(-s, axis=1, kind="stable")] for name, s in scores.items()}
        votes = [np.bincount(row[:5]).argmax() for row in ranked["euclidean"]]
        found.append(
            {f"recall_{name}_at_1": np.mean(r[:, 0] == wanted) for name, r in ranked.items()}
            | {"knn_accuracy": np.mean(votes == wanted)}
        )
    return found


@settings(deadline=None, max_examples=40)
@given(
    num_items=st.integers(2, 150),
    num_queries=st.integers(1, 20),
    dim=st.integers(2, 6),
    seed=st.integers(0, 10**6),
    spread=st.sampled_from([1.0, 1e-3]),
)
def test_curve_is_that_of_brute_force(
    num_items: int, num_queries: int, dim: int, seed: int, spread: float
) -> None:
    data = (*draw(num_items, dim, seed, spread=spread), *draw(num_queries, dim, seed + 1, spread=spread))
    curve = truncation_curve(*data, spectrum(data[0]))
    # A component without variance holds rounding alone, in another order of summing another one.
    rank = min(dim, num_items - 1)
    for point, expected in list(zip(curve, by_brute_force(*data), strict=True))[:rank]:
        if point.components == 1:  # cosines are signs there
            del expected["recall_cosine_at_1"]
        for name, value in expected.items():
            assert getattr(point, name) == pytest.approx(value), (point.components, name)


@pytest.mark.parametrize("spread", [1.0, 1e-3])
def test_curve_is_that_of_the_truncations_at_their_sizes(spread: float) -> None:
    """The smaller spread is a monotonic head's start: cosines within 1e-5 of 1."""
    gallery, labels = draw(2000, 70, 1, num_labels=10, spread=spread)
    queries, query_labels = draw(300, 70, 2, num_labels=10, spread=spread)
    components = spectrum(gallery)
    curve = truncation_curve(gallery, labels, queries, query_labels, components)
    for expected in truncations(gallery, labels, queries, query_labels, components):
        point = curve[expected.components - 1]
        for name in CurvePoint._fields:
            assert name == "num_queries" or getattr(point, name) == getattr(expected, name)


def test_every_number_of_components_has_its_point() -> None:
    data = (*draw(30, 7, 1), *draw(9, 7, 2))
    curve = truncation_curve(*data, spectrum(data[0]))
    assert [point.components for point in curve] == list(range(1, 8))
    assert {point.num_queries for point in curve} == {9}


def test_the_first_queries_are_asked() -> None:
    gallery, labels, queries, query_labels = *draw(80, 5, 1), *draw(30, 5, 2)
    components = spectrum(gallery)
    few = truncation_curve(gallery, labels, queries[:12], query_labels[:12], components)
    assert truncation_curve(gallery, labels, queries, query_labels, components, max_queries=12) == few
    assert few[0].num_queries == 12


def test_cosine_of_one_component_is_the_chance_of_its_side() -> None:
    gallery = torch.tensor([[-3.0, 0], [-2, 0], [-1, 0], [1, 0], [2, 0], [3, 0]]).double()
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    queries, query_labels = (
        torch.tensor([[-9.0, 0], [0.5, 0], [0.5, 0]]).double(),
        torch.tensor([0, 1, 5]),
    )
    first = truncation_curve(gallery, labels, queries, query_labels, spectrum(gallery))[0]
    assert first.recall_cosine_at_1 == pytest.approx((2 / 3 + 1 / 3 + 0) / 3)


def test_size_of_a_chunk_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    data = (*draw(200, 5, 1), *draw(30, 5, 2))
    whole = truncation_curve(*data, spectrum(data[0]))
    monkeypatch.setattr(module, "_CHUNK_SCORES", {"cpu": 3 * 256})
    assert truncation_curve(*data, spectrum(data[0])) == whole


def test_number_of_threads_changes_nothing_and_is_as_before() -> None:
    data = (*draw(3000, 5, 1), *draw(700, 5, 2))
    alone = truncation_curve(*data, spectrum(data[0]))
    with threadpool_limits(2, user_api="openmp"):
        before = torch.get_num_threads()
        torch.set_num_threads(2)
        try:
            assert truncation_curve(*data, spectrum(data[0])) == alone
            assert torch.get_num_threads() == 2
        finally:
            torch.set_num_threads(before)
