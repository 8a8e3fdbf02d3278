"""Axes of metrics and numbers as people read them, for all figures of a sweep."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from orchestrator.front_table import FrontTable
from trainables.reports import METRICS, Direction

_LABELS = {
    "knn_accuracy": "5-NN accuracy (validation)",
    "spearman": "Spearman (validation)",
    "d_eff": "d_eff (components for 99 % of variance)",
}
_OF_SCORES = "spearman"
"""The metric that is called after the pairs it is of."""
_SHORT_RANGE = 8.0
LOGARITHMIC = ("d_eff", "d_eff_90", "d_eff_95", "d_eff_999", "encoder_d_eff", "unnormalized_d_eff")


class Axis(NamedTuple):
    """One axis: the metric, its label, whether it is logarithmic, its direction."""

    metric: str
    label: str
    logarithmic: bool
    direction: Direction | None


def objective_axes(table: FrontTable) -> tuple[Axis, Axis]:
    """The plane of a front: along x the second objective, or the epoch where there is one only; along
    y the first.
    """
    names = list(table.objectives)
    y = axis_of(names[0], table)
    return (axis_of(names[1], table) if len(names) > 1 else Axis("epoch", "epoch", False, None)), y


def axis_of(metric: str, table: FrontTable) -> Axis:
    """The axis of an objective."""
    label = _LABELS.get(metric, METRICS[metric].description if metric in METRICS else metric)
    if metric == _OF_SCORES and table.scored_on:
        label = f"{table.scored_on} {label}"
    return Axis(metric, label, metric in LOGARITHMIC, table.objectives[metric])


def log_ticks(values: Sequence[float]) -> list[float]:
    """1, 2, 5, 10, ... over the values' range and as far again; more of them where it is a short one."""
    known = [value for value in values if value > 0] or [1.0, 10.0]
    low, high = min(known), max(known)
    digits = (1, 1.5, 2, 3, 4, 5, 6, 8) if high / low < _SHORT_RANGE else (1, 2, 5)
    decades = range(math.floor(math.log10(low / 2)), math.ceil(math.log10(high * 2)) + 1)
    ticks = [digit * 10.0**decade for decade in decades for digit in digits]
    return [tick for tick in ticks if low / 2 <= tick <= high * 2]


def drawn_axis(axis: Axis, ticks: Sequence[float]) -> dict[str, Any]:
    """The axis for plotly: its label as text, and where it is logarithmic these ticks."""
    return {
        "title_text": html.escape(axis.label),
        "title_standoff": 8,
        **log_axis(axis.logarithmic, ticks),
    }


def log_axis(logarithmic: bool, ticks: Sequence[float]) -> dict[str, Any]:
    """A plotly axis with these ticks; a linear one where it is not logarithmic."""
    if not logarithmic:
        return {}
    return {"type": "log", "tickvals": list(ticks), "ticktext": [f"{tick:g}" for tick in ticks]}


def steps(x: Axis) -> str:
    """Plotly's word for a front's line: with x minimised a value holds up to the next one's right."""
    return "vh" if x.direction == "max" else "hv"


def whole_steps(most: int) -> int | None:
    """Between the ticks of an axis that counts: one where plotly would part it, else as it likes."""
    return 1 if most < 8 else None


def point_names(points: pd.DataFrame) -> list[list[Any]]:
    """What a click on each point tells: its trial and its epoch."""
    return [[trial, int(epoch)] for trial, epoch in zip(points["trial"], points["epoch"], strict=True)]


def is_missing(value: object) -> bool:
    """Whether a cell of a table is empty."""
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def number(value: object) -> str:
    """A value as people read it: floats to four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
