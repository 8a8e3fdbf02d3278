"""Fronts and hypervolumes: numpy in, numpy out, everything minimised. Pure.

Directions are normalised once, by `minimised`; all other functions take its result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import moocore
import numpy as np
from numpy.typing import NDArray

from trainables.reports import Direction

Values = NDArray[np.float64]


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


def _as_array(points: Sequence[Sequence[float]] | Values) -> Values:
    return np.ascontiguousarray(points, dtype=np.float64)
