"""Exact metrics of an embedding in one pass: one top-20 for 5-NN and every Recall@k, one
eigendecomposition for d_eff, the reconstruction error and every truncation.

Called by `trainables.training` at each validation. Everything about variance is float64: in float32
the small reconstruction errors of the paper's Table 3 are noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from trainables.reports import NUM_RECALLS, VARIANCE_SHARES

NUM_NEIGHBOURS = 5
_CHUNK_ROWS = 1024
_RERANK_ROWS = 128
_SPECTRUM_CHUNK_ROWS = 8192


@dataclass(frozen=True)
class Spectrum:
    """The principal components of a set of vectors, in float64.

    Attributes:
        mean: (dim,)
        variances: (dim,), falling.
        components: (dim, dim), one principal direction a column, in the order of `variances`.
    """

    mean: Float[Tensor, " dim"]
    variances: Float[Tensor, " dim"]
    components: Float[Tensor, "dim dim"]

    def num_components(self, share: float) -> int:
        """The smallest number of components that hold at least `share` of the variance.

        Source: paper, section 4.3 (d_eff with share = 0.99).
        """
        total = self.variances.sum()
        assert total.isfinite(), "a spectrum of vectors that are not finite"
        if total <= 0:
            return 1
        held = self.variances.cumsum(0) / total
        return int((held < share).sum().clamp(max=len(held) - 1)) + 1


def spectrum(vectors: Float[Tensor, "item dim"]) -> Spectrum:
    """Principal components from the centred covariance, float64 (paper, section 4.3)."""
    mean = vectors.mean(dim=0, dtype=torch.float64)
    covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=vectors.device)
    for chunk in vectors.split(_SPECTRUM_CHUNK_ROWS):
        centred = chunk.double() - mean
        covariance.addmm_(centred.T, centred)
    covariance /= max(len(vectors) - 1, 1)
    variances, components = torch.linalg.eigh(covariance)
    return Spectrum(mean, variances.flip(0).clamp(min=0), components.flip(1))


def evaluate(
    gallery: Float[Tensor, "item dim"],
    gallery_labels: Int[Tensor, " item"],
    queries: Float[Tensor, "query dim"],
    query_labels: Int[Tensor, " query"],
) -> dict[str, float]:
    """All metrics of L2-normalised embeddings of images: 5-NN accuracy, Recall@k, d_eff, errors.

    Args:
        gallery: the training set's embeddings, unit length.
        gallery_labels: their labels.
        queries: the held-out embeddings, unit length.
        query_labels: their labels.
    """
    neighbours = nearest_labels(queries, gallery, gallery_labels)
    return {
        "knn_accuracy": knn_accuracy(neighbours, query_labels),
        **recalls(neighbours, query_labels),
        **compactness(gallery, queries),
    }


def compactness(
    gallery: Float[Tensor, "item dim"],
    queries: Float[Tensor, "query dim"],
    components: Spectrum | None = None,
) -> dict[str, float]:
    """d_eff at all VARIANCE_SHARES, its bytes, and the queries' reconstruction error on so many.

    Args:
        gallery: the training set's embeddings, unit length.
        queries: the held-out embeddings, unit length.
        components: the gallery's, where they are known already.
    """
    components = spectrum(gallery) if components is None else components
    errors = reconstruction_errors(queries, components)
    d_eff = components.num_components(VARIANCE_SHARES["d_eff"])
    return {
        **{name: float(components.num_components(share)) for name, share in VARIANCE_SHARES.items()},
        "embedding_bytes": float(d_eff * torch.float32.itemsize),
        "reconstruction_error": float(errors.absolute[d_eff]),
        "reconstruction_error_relative": float(errors.relative[d_eff]),
    }


def effective_dimension(vectors: Float[Tensor, "item dim"]) -> float:
    """d_eff: principal components for 99 % of the variance (paper, section 4.3)."""
    return float(spectrum(vectors).num_components(VARIANCE_SHARES["d_eff"]))


def nearest_labels(
    queries: Float[Tensor, "query dim"],
    gallery: Float[Tensor, "item dim"],
    gallery_labels: Int[Tensor, " item"],
    k: int = NUM_RECALLS,
) -> Int[Tensor, "query k"]:
    """Labels of each query's k nearest gallery items by Euclidean distance, nearest first.

    A float32 matrix product finds twice as many candidates on centred vectors, and float64 distances
    order them. Inner products of the vectors as they are would not do: the embeddings of a monotonic
    head start with cosines within 1e-6 of 1, where their order in float32 is rounding noise (157 of
    300 votes differed from the exact ones).
    """
    k = min(k, len(gallery))
    mean = gallery.mean(dim=0, dtype=torch.float64)
    centred = (gallery.double() - mean).to(gallery.dtype)
    half_squares = centred.square().sum(dim=1) / 2
    rows = []
    for chunk in queries.split(_CHUNK_ROWS):
        similarity = torch.addmm(-half_squares, (chunk.double() - mean).to(chunk.dtype), centred.T)
        candidates = similarity.topk(min(2 * k, len(gallery)), dim=1).indices
        rows.append(_nearest_first(chunk, gallery, candidates)[:, :k])
    return gallery_labels[torch.cat(rows)]


def _nearest_first(
    queries: Float[Tensor, "query dim"],
    gallery: Float[Tensor, "item dim"],
    candidates: Int[Tensor, "query candidate"],
) -> Int[Tensor, "query candidate"]:
    """The candidates in the order of their float64 distance; equal ones in the gallery's order."""
    candidates = candidates.sort(dim=1).values
    distances = torch.cat(
        [
            (gallery[rows].double() - some[:, None].double()).square().sum(dim=2)
            for some, rows in zip(
                queries.split(_RERANK_ROWS), candidates.split(_RERANK_ROWS), strict=True
            )
        ]
    )
    return candidates.gather(1, distances.argsort(dim=1, stable=True))


def top_product_labels(
    queries: Float[Tensor, "query dim"],
    gallery: Float[Tensor, "item dim"],
    gallery_labels: Int[Tensor, " item"],
    k: int = NUM_RECALLS,
) -> Int[Tensor, "query k"]:
    """Labels of the k gallery items with the largest inner product with each query, largest first."""
    k = min(k, len(gallery))
    rows = [(chunk @ gallery.T).topk(k, dim=1).indices for chunk in queries.split(_CHUNK_ROWS)]
    return gallery_labels[torch.cat(rows)]


def knn_accuracy(neighbours: Int[Tensor, "query k"], labels: Int[Tensor, " query"]) -> float:
    """Share of queries whose label wins the vote of their nearest (paper, section 4.3)."""
    return float((knn_votes(neighbours) == labels).double().mean())


def knn_votes(neighbours: Int[Tensor, "query k"]) -> Int[Tensor, " query"]:
    """The label that most of each query's 5 nearest have; ties go to the smallest label."""
    nearest = neighbours[:, :NUM_NEIGHBOURS]
    votes = (nearest[:, :, None] == nearest[:, None, :]).sum(dim=2)
    num_labels = int(nearest.max()) + 1
    # Most votes first, then the smallest label: both in one integer to maximise.
    key = votes * num_labels + (num_labels - 1 - nearest)
    return num_labels - 1 - key.amax(dim=1) % num_labels


def recalls(neighbours: Int[Tensor, "query k"], labels: Int[Tensor, " query"]) -> dict[str, float]:
    """Recall@k, the share of queries with a hit among the k nearest, for k = 1 to 20."""
    hits = (neighbours == labels[:, None]).cummax(dim=1).values.double().mean(dim=0)
    last = hits.shape[0] - 1
    return {f"recall_at_{k}": float(hits[min(k - 1, last)]) for k in range(1, NUM_RECALLS + 1)}


def correlation_matrix(vectors: Float[Tensor, "item dim"]) -> Float[Tensor, "dim dim"]:
    """Pearson correlation of the features, float64 (paper, section 5.3).

    A feature that does not vary beyond float32 rounding is correlated with itself alone.
    """
    mean = vectors.mean(dim=0, dtype=torch.float64)
    centred = vectors.double() - mean
    norms = centred.square().sum(dim=0).sqrt()
    rounding = torch.finfo(torch.float32).eps * mean.abs() * len(vectors) ** 0.5
    unit = centred * torch.where(norms > rounding, 1 / norms, 0.0)
    return (unit.T @ unit).clamp(-1, 1).fill_diagonal_(1.0)


def correlation_rms(vectors: Float[Tensor, "item dim"]) -> float:
    """Root mean square of the correlations between different features."""
    matrix = correlation_matrix(vectors)
    dim = len(matrix)
    if dim < 2:
        return 0.0
    return float(((matrix.square().sum() - dim).clamp(min=0) / (dim * (dim - 1))).sqrt())


def spearman(
    first: Float[Tensor, "pair dim"], second: Float[Tensor, "pair dim"], scores: Float[Tensor, " pair"]
) -> float:
    """Spearman correlation of the pairs' cosine similarities with their scores (paper, section 4.1).

    0 where one of them is the same for all pairs. In float64 and from the vectors' distance, since the
    embeddings of a monotonic head start with cosines within 1e-6 of 1, where a float32 product is noise.
    """
    one, other = (functional.normalize(vectors.double(), dim=1) for vectors in (first, second))
    similarities = 1 - (one - other).square().sum(dim=1) / 2
    return rank_correlation(similarities, scores)


def rank_correlation(values: Float[Tensor, " pair"], scores: Float[Tensor, " pair"]) -> float:
    """Spearman correlation, ties at their mean rank; 0 where one side is the same for all pairs."""
    from scipy import stats

    found, wanted = values.cpu().numpy(), scores.cpu().numpy()
    if (found == found[0]).all() or (wanted == wanted[0]).all():
        return 0.0
    result: Any = stats.spearmanr(found, wanted)
    return float(result.statistic)


@dataclass(frozen=True)
class ReconstructionErrors:
    """Errors after keeping the first k components, for every k from 0 to dim.

    Attributes:
        absolute: (dim + 1,), root mean square over all item-by-dimension entries.
        relative: (dim + 1,), squared residual over the squared distance from the training mean.
    """

    absolute: Float[Tensor, " k"]
    relative: Float[Tensor, " k"]


def reconstruction_errors(vectors: Float[Tensor, "item dim"], basis: Spectrum) -> ReconstructionErrors:
    """PCA reconstruction errors of `vectors` on the components of another set (paper, section 4.3)."""
    energy = torch.zeros_like(basis.variances)
    for chunk in vectors.split(_SPECTRUM_CHUNK_ROWS):
        energy += ((chunk.double() - basis.mean) @ basis.components).square().sum(dim=0)
    # What is left after k components is the sum over the others: no difference of large numbers.
    left = torch.cat([energy.flip(0).cumsum(0).flip(0), energy.new_zeros(1)])
    return ReconstructionErrors(
        absolute=(left / vectors.numel()).sqrt(),
        relative=left / left[0].clamp(min=torch.finfo(torch.float64).tiny),
    )
