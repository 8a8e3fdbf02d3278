"""Groups of features that are correlated with each other, and a number for how clear they are.

Pure; called by the figures of correlation matrices.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform


class FeatureBlocks(NamedTuple):
    """The clustering of a correlation matrix's features.

    Attributes:
        order: (feature,), the features in the order of the dendrogram's leaves.
        merges: (feature - 1, 4), scipy's linkage: average, by the distance 1 - |r|.
        rms: root mean square of the correlations between different features.
        modularity: of the best cut, from 0 (no block structure) to below 1; k equal blocks that have
            nothing in common have 1 - 1/k.
        labels: (feature,), the block of each feature by the best cut, from 0.
    """

    order: np.ndarray
    merges: np.ndarray
    rms: float
    modularity: float
    labels: np.ndarray

    @property
    def num_blocks(self) -> int:
        return int(self.labels.max()) + 1

    def sizes(self) -> np.ndarray:
        """(block,), the number of features of the blocks in the dendrogram's order."""
        _, starts = np.unique(self.labels[self.order], return_index=True)
        return np.diff([*sorted(starts), len(self.order)])


def feature_blocks(correlation: np.ndarray) -> FeatureBlocks:
    """Clusters the features of a correlation matrix, (feature, feature).

    The blocks are those of the cut through the dendrogram with the largest modularity of the network
    whose edges weigh r² (Newman, Analysis of weighted networks, 2004, Eq. 6).
    """
    matrix = np.asarray(correlation, dtype=np.float64)
    strength = np.abs(matrix + matrix.T).clip(max=2) / 2
    np.fill_diagonal(strength, 1)
    dim = len(matrix)
    weights = strength**2
    np.fill_diagonal(weights, 0)
    rms = float(np.sqrt(weights.sum() / max(dim * (dim - 1), 1)))
    if dim < 2:
        return FeatureBlocks(np.arange(dim), np.empty((0, 4)), rms, 0.0, np.zeros(dim, dtype=int))
    merges = hierarchy.linkage(squareform(1 - strength, checks=False), "average")
    gains = _modularities(weights, merges)
    best = int(np.argmax(gains))
    return FeatureBlocks(
        order=hierarchy.leaves_list(merges),
        merges=merges,
        rms=rms,
        modularity=float(gains[best]),
        labels=_labels(merges, best),
    )


def _modularities(weights: np.ndarray, merges: np.ndarray) -> np.ndarray:
    """(feature,), the modularity after 0, 1, ... of the merges; all 0 where nothing is correlated."""
    total = weights.sum()
    if total <= 0:
        return np.zeros(len(merges) + 1)
    dim = len(weights)
    between = np.zeros((2 * dim - 1, 2 * dim - 1))
    between[:dim, :dim] = weights / total
    strengths = between.sum(axis=1)
    values = [-float((strengths[:dim] ** 2).sum())]
    for step, (one, other) in enumerate(merges[:, :2].astype(int)):
        values.append(values[-1] + 2 * float(between[one, other] - strengths[one] * strengths[other]))
        new = dim + step
        between[new] = between[one] + between[other]
        between[:, new] = between[new]
        strengths[new] = strengths[one] + strengths[other]
    return np.array(values)


def _labels(merges: np.ndarray, num_merges: int) -> np.ndarray:
    """(feature,), the cluster of each after so many merges."""
    dim = len(merges) + 1
    members = {feature: [feature] for feature in range(dim)}
    for step, (one, other) in enumerate(merges[:num_merges, :2].astype(int)):
        members[dim + step] = members.pop(one) + members.pop(other)
    labels = np.empty(dim, dtype=int)
    for label, features in enumerate(members.values()):
        labels[features] = label
    return labels
