"""Fronts and hypervolumes: numpy in, numpy out, everything minimised. Pure.

Directions are normalised once, by `minimised`; all other functions take its result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import moocore
import numpy as np
from numpy.typing import NDArray

from trainables.reports import Direction

Values = NDArray[np.float64]
Ranks = NDArray[np.int64]


def minimised(values: Mapping[str, float], objectives: Mapping[str, Direction]) -> tuple[float, ...]:
    """The objective values of one point, in the objectives' order, negated where they are maximised."""
    return tuple(
        -values[name] if direction == "max" else values[name] for name, direction in objectives.items()
    )


def nondominated(points: Sequence[Sequence[float]] | Values) -> NDArray[np.bool_]:
    """Which points no other point dominates; of equal points the first.

    Args:
        points: (point, objective), finite.
    """
    array = _as_array(points)
    if not len(array):
        return np.zeros(0, dtype=bool)
    return np.asarray(moocore.is_nondominated(array), dtype=bool)


def dominates(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether `a` is nowhere worse than `b` and somewhere better."""
    return all(x <= y for x, y in zip(a, b, strict=True)) and tuple(a) != tuple(b)


def ranks(
    points: Sequence[Sequence[float]] | Values,
    violations: Sequence[float] | Values = (),
    reference: Sequence[float] | None = None,
) -> Ranks:
    """Rank of each point by constrained non-dominated sorting: 0 for the front, 1 for the front of the
    rest, and so on; equal points share theirs.

    A point that holds every constraint comes before one that does not; of two that do not, the one
    with the smaller violation comes first (Deb et al. 2002, "A fast and elitist multiobjective genetic
    algorithm: NSGA-II", section VI). Of those that do, all that are nowhere worse than the reference
    come before the others, which add nothing to a hypervolume; of the others first those that lack less,
    each objective in its own unit, and at the same lack the fronts as above.

    Args:
        points: (point, objective), finite.
        violations: of each point, 0 where it holds every constraint; empty where there is none.
        reference: of the hypervolume.
    """
    array = _as_array(points)
    if not len(array):
        return np.zeros(0, dtype=np.int64)
    broken = np.asarray(violations, dtype=float) if len(violations) else np.zeros(len(array))
    result = np.zeros(len(array), dtype=np.int64)
    holds = broken <= 0
    limit = np.full(array.shape[1], np.inf) if reference is None else np.asarray(reference, dtype=float)
    lacks = holds & (array > limit).any(axis=1)
    result[holds & ~lacks] = _sort_nondominated(array[holds & ~lacks])
    result[lacks] = _after(result, holds & ~lacks) + _sort_lacking(array[lacks], limit)
    num_fronts = _after(result, holds)
    _, order = np.unique(broken[~holds], return_inverse=True)
    result[~holds] = num_fronts + order
    return result


def _after(ranks_: Ranks, chosen: NDArray[np.bool_]) -> int:
    """The rank after those of the chosen."""
    return int(ranks_[chosen].max()) + 1 if chosen.any() else 0


def _sort_lacking(array: Values, limit: Values) -> Ranks:
    """Ranks of points that are all worse than the limit somewhere; a dominated one still comes later."""
    lack = _sort_nondominated(np.maximum(array, limit))
    pairs = np.stack([lack, _sort_nondominated(array)], axis=1)
    return np.unique(pairs, axis=0, return_inverse=True)[1].ravel().astype(np.int64)


def _sort_nondominated(array: Values) -> Ranks:
    if not len(array):
        return np.zeros(0, dtype=np.int64)
    if array.shape[1] == 1:  # which moocore does not take
        return np.asarray(np.unique(array[:, 0], return_inverse=True)[1], dtype=np.int64)
    return moocore.pareto_rank(array).astype(np.int64)


def quantiles(points: Sequence[Sequence[float]] | Values) -> Values:
    """Each objective's values replaced by their places among its distinct values, from 0 to 1.

    What is computed from them does not change with an objective's unit or scale.
    """
    array = _as_array(points)
    places = np.stack([np.unique(column, return_inverse=True)[1] for column in array.T], axis=1)
    return places / np.maximum(places.max(axis=0), 1)


def hypervolume(points: Sequence[Sequence[float]] | Values, reference: Sequence[float]) -> float:
    """The volume that the points dominate within the box that ends at `reference`."""
    array = _as_array(points)
    if not len(array):
        return 0.0
    return float(moocore.hypervolume(array, ref=np.asarray(reference, dtype=float)))


def contributions(points: Sequence[Sequence[float]] | Values, reference: Sequence[float]) -> Values:
    """The hypervolume that the front of the points loses with each of them.

    0 for dominated points and for all but one of equal points.
    """
    array = _as_array(points)
    result = np.zeros(len(array))
    kept = nondominated(array)
    limit = np.asarray(reference, dtype=float)
    if len(limit) == 1:  # one best point, which moocore does not take
        result[kept] = np.maximum(limit - array[kept], 0.0).ravel()
    elif kept.any():
        result[kept] = moocore.hv_contributions(array[kept], ref=limit)
    return result


def hypervolume_history(points: Iterable[Sequence[float]], reference: Sequence[float]) -> list[float]:
    """The hypervolume of the front after each point, in the points' order."""
    front: list[Sequence[float]] = []
    history: list[float] = []
    for point in points:
        if any(tuple(other) == tuple(point) or dominates(other, point) for other in front):
            history.append(history[-1])
            continue
        front = [other for other in front if not dominates(point, other)] + [point]
        history.append(hypervolume(front, reference))
    return history


def _as_array(points: Sequence[Sequence[float]] | Values) -> Values:
    return np.ascontiguousarray(points, dtype=np.float64)
