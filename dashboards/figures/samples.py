"""Some of many, where all would cover each other or take too long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import pandas as pd

from dashboards.figures.axes import Axis

Item = TypeVar("Item")
CELLS = (300, 260)
"""The plane is thinned to one point a cell, kind and feasibility: a mark is wider than a cell."""


def some_of(items: Sequence[Item], at_most: int) -> list[Item]:
    """All of them, or so many in their order, drawn at random and the same each time.

    Not every n-th: a grid or a cycle among the items would lose whole kinds of them.
    """
    if len(items) <= at_most:
        return list(items)
    places = np.random.default_rng(0).choice(len(items), size=at_most, replace=False)
    return [items[place] for place in np.sort(places)]


def one_a_cell(points: pd.DataFrame, x: Axis, y: Axis) -> pd.DataFrame:
    """The front, and of all points the first in each cell of the plane, of each kind and feasibility;
    all where there are few.
    """
    columns, rows = CELLS
    if len(points) <= columns:
        return points
    cells = pd.DataFrame(
        {
            "column": _cells(points[x.metric].tolist(), x.logarithmic, columns),
            "row": _cells(points[y.metric].tolist(), y.logarithmic, rows),
            "kind": points["kind"],
            "is_feasible": points["is_feasible"],
        }
    )
    return points.loc[points["on_front"] | ~cells.duplicated()].reset_index(drop=True)


def _cells(values: Sequence[float], logarithmic: bool, number_of: int) -> np.ndarray:
    """The cell of each value, from 0."""
    places = np.asarray(values, dtype=float)
    places = np.log(np.maximum(places, 1e-12)) if logarithmic else places
    low, high = places.min(), places.max()
    return np.floor((places - low) / ((high - low) or 1.0) * (number_of - 1)).astype(int)
