"""Test metrics of images' embeddings on their first k principal components, for every k.

Called by `trainables.evaluation`, whose `truncations` are the reference for a few k and all queries.
The similarities of k components are those of k - 1 and one product more, all in float64: per step a
rank-1 update and three maxima in place of a matrix product and three sorts.

Suffixes: Q queries of a chunk, G gallery items (and the filling of the last block), R and B the place of
an item in its block and its block, D components.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, Int, Int64
from torch import Tensor

from trainables.metrics import NUM_NEIGHBOURS, Spectrum, knn_accuracy

_MAX_QUERIES = 1000
"""The first so many test queries are asked: with 50,000 items of width 512 a hundred of them cost 13 s
of CPU time, so all of them about a minute on two threads that are free."""
_BLOCK = 64
_CHUNK_SCORES = {"cpu": 2**19, "cuda": 2**24}
"""Similarities at once; on a CPU so few that they stay in its cache."""
_SMALLEST_LENGTH = 1e-12


class CurvePoint(NamedTuple):
    """Test metrics on the first principal components of the gallery.

    Attributes:
        components: number of components kept.
        num_queries: the first so many of the test set were asked.
        knn_accuracy: 5-NN by Euclidean distance.
        recall_dot_at_1: Recall ranked by the inner product of centred coordinates, `euclidean` by their
            distance, `cosine` by their cosine. On one component a cosine is a sign: there it is the
            chance that an item of the query's side has its label.
    """

    components: int
    num_queries: int
    knn_accuracy: float
    recall_dot_at_1: float
    recall_cosine_at_1: float
    recall_euclidean_at_1: float


def truncation_curve(
    gallery: Float[Tensor, "item dim"],
    gallery_labels: Int[Tensor, " item"],
    queries: Float[Tensor, "query dim"],
    query_labels: Int[Tensor, " query"],
    components: Spectrum,
    max_queries: int = _MAX_QUERIES,
) -> list[CurvePoint]:
    """Metrics of the first queries on the first k components, for k from 1 to the width."""
    queries, query_labels = queries[:max_queries], query_labels[:max_queries]
    items_GD, queries_QD = (
        (vectors.double() - components.mean) @ components.components for vectors in (gallery, queries)
    )
    ranked = _Gallery(items_GD)
    found = _each_in_a_thread(ranked.nearest, queries_QD.split(ranked.num_rows))
    dot, cosine, euclidean = (
        gallery_labels[torch.cat(places, dim=1)] for places in zip(*found, strict=True)
    )
    by_sign = _recall_by_sign(items_GD[:, 0], gallery_labels, queries_QD[:, 0], query_labels)
    return [
        CurvePoint(
            components=k + 1,
            num_queries=len(queries),
            knn_accuracy=knn_accuracy(euclidean[k], query_labels),
            recall_dot_at_1=_share(dot[k], query_labels),
            recall_cosine_at_1=_share(cosine[k], query_labels) if k else by_sign,
            recall_euclidean_at_1=_share(euclidean[k], query_labels),
        )
        for k in range(gallery.shape[1])
    ]


class _Nearest(NamedTuple):
    """Places in the gallery of each query's nearest, nearest first, by each ranking."""

    dot: Int64[Tensor, "dim query 1"]
    cosine: Int64[Tensor, "dim query 1"]
    euclidean: Int64[Tensor, "dim query nearest"]


class _Gallery:
    """Items laid out in blocks: item g is row `g // num_blocks` of block `g % num_blocks`.

    Args:
        items: their centred coordinates.
    """

    def __init__(self, items: Float64[Tensor, "item dim"]) -> None:
        self.num_items, dim = items.shape
        self.num_blocks = -(-self.num_items // _BLOCK)
        num_places = self.num_blocks * _BLOCK
        self.num_rows = max(1, _CHUNK_SCORES[items.device.type] // num_places)
        self.items_DG = items.new_zeros(dim, num_places)
        self.items_DG[:, : self.num_items] = items.T

    def nearest(self, queries: Float64[Tensor, "query dim"]) -> _Nearest:
        """The nearest of a chunk of queries on the first 1, 2, ... components."""
        return _Nearest(*(torch.stack(places) for places in zip(*self._steps(queries), strict=True)))

    def _steps(self, queries: Float64[Tensor, "query dim"]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        products_QG = queries.new_zeros(len(queries), self.items_DG.shape[1])
        products_QG[:, self.num_items :] = -torch.inf  # what fills the last block is never near
        scores_QG = torch.empty_like(products_QG)
        squares_G = torch.zeros_like(products_QG[0])
        for query_Q, item_G in zip(queries.T, self.items_DG, strict=True):
            products_QG.addr_(query_Q, item_G)
            squares_G.addcmul_(item_G, item_G)
            dot = self._largest(products_QG, 1)
            torch.mul(
                products_QG, squares_G.sqrt().clamp(min=_SMALLEST_LENGTH).reciprocal(), out=scores_QG
            )
            cosine = self._largest(scores_QG, 1)
            torch.sub(products_QG, squares_G / 2, out=scores_QG)
            yield dot, cosine, self._largest(scores_QG, NUM_NEIGHBOURS)

    def _largest(
        self, scores: Float64[Tensor, "query item"], number: int
    ) -> Int64[Tensor, "query number"]:
        """Places of the largest scores, largest first: they lie in the blocks of the largest maxima."""
        scores_QRB = scores.view(len(scores), _BLOCK, self.num_blocks)
        best_QB = scores_QRB.amax(dim=1).topk(min(number, self.num_blocks), dim=1).indices
        index = best_QB[:, None].expand(-1, _BLOCK, -1)
        places = scores_QRB.gather(2, index).flatten(1).topk(min(number, self.num_items), dim=1).indices
        rows, blocks = places // best_QB.shape[1], best_QB.gather(1, places % best_QB.shape[1])
        return rows * self.num_blocks + blocks


def _each_in_a_thread(
    nearest: Callable[[Tensor], _Nearest], chunks: Sequence[Float64[Tensor, "query dim"]]
) -> list[_Nearest]:
    """Of each chunk, on as many threads as torch has, each by itself: operations as short as these
    spend most of their time waiting for each other's threads where other work runs beside them.
    """
    num_threads = torch.get_num_threads()
    if num_threads == 1 or chunks[0].is_cuda:
        return [nearest(chunk) for chunk in chunks]
    try:
        with ThreadPoolExecutor(num_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(nearest, chunks))
    finally:
        torch.set_num_threads(num_threads)


def _share(nearest: Int[Tensor, "query nearest"], labels: Int[Tensor, " query"]) -> float:
    """Recall@1."""
    return float((nearest[:, 0] == labels).double().mean())


def _recall_by_sign(
    items: Float64[Tensor, " item"],
    item_labels: Int[Tensor, " item"],
    queries: Float64[Tensor, " query"],
    query_labels: Int[Tensor, " query"],
) -> float:
    """Mean chance that an item of the same sign has the query's label."""
    num_labels = int(torch.cat([item_labels, query_labels]).max()) + 1
    chances = torch.zeros_like(queries)
    for sign in (-1, 0, 1):
        counts = item_labels[items.sign() == sign].bincount(minlength=num_labels).double()
        asked = queries.sign() == sign
        chances[asked] = counts[query_labels[asked]] / counts.sum().clamp(min=1)
    return float(chances.mean())
