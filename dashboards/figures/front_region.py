"""The part of a front's plane in which the sweep's constraints are broken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dashboards.figures.axes import Axis
from orchestrator.front import Front

_REGION_CELLS = (120, 90)
_MOST_EXCESS = 1.0
"""Beyond it only the sign of an excess matters; an infinite one would leave a hole in the region."""


class Region(NamedTuple):
    """By how much places of the plane break the constraints that are about its two metrics alone.

    Attributes:
        x: of the columns.
        y: of the rows.
        excess: (row, column), above 0 where one is broken.
        texts: of the constraints that are shown.
    """

    x: list[float]
    y: list[float]
    excess: list[list[float]]
    texts: list[str]


def front_region(
    front: Front, xs: Sequence[float], ys: Sequence[float], x: Axis, y: Axis
) -> Region | None:
    """The constraints in the plane around these places, once what they name is known."""
    if front.constraints.need_baseline and front.baseline is None:
        return None
    baseline = {} if front.baseline is None else front.baseline.metrics
    shown = [c for c in front.constraints if c.left.names.own <= {x.metric, y.metric}]
    if not shown:
        return None
    columns, rows = _grid(xs, x, _REGION_CELLS[0]), _grid(ys, y, _REGION_CELLS[1])

    def excess_at(column: float, row: float) -> float:
        most = max(c.excess({x.metric: column, y.metric: row}, baseline) for c in shown)
        return max(-_MOST_EXCESS, min(most, _MOST_EXCESS))

    excess = [[excess_at(column, row) for column in columns] for row in rows]
    return Region(columns, rows, excess, [c.text for c in shown])


def _grid(values: Sequence[float], axis: Axis, number_of: int) -> list[float]:
    """Places over the values' range and somewhat beyond, where the axis shows it."""
    low, high = min(values), max(values)
    if axis.logarithmic:
        return np.geomspace(max(low, 1e-9) / 1.6, max(high, 1e-9) * 1.6, number_of).tolist()
    margin = 0.1 * ((high - low) or abs(high) or 1.0)
    return np.linspace(low - margin, high + margin, number_of).tolist()
