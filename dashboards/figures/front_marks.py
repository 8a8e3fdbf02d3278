"""What a front is compared with: the baseline and the paper's points, as marks in its plane."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import NamedTuple

import plotly.graph_objects as go

from dashboards.figures.axes import Axis, number
from dashboards.figures.style import head_colour
from orchestrator.trials import Point


class Mark(NamedTuple):
    """A point to compare others with: the baseline, or one of the paper's.

    Attributes:
        kind: of its head.
        symbol: plotly's.
        point: its trial and epoch; None where it is none of the sweep's.
    """

    name: str
    x: float
    y: float
    kind: str
    symbol: str
    point: tuple[str, int] | None = None


def front_marks(
    x: Axis, y: Axis, baseline: Point | None, paper: Mapping[str, Mapping[str, float]]
) -> list[Mark]:
    """The marks that have both metrics, the baseline's first."""
    marks = [
        Mark(f"paper: {kind} (test)", values[x.metric], values[y.metric], kind, "cross-open")
        for kind, values in paper.items()
        if x.metric in values and y.metric in values
    ]
    if baseline is not None and x.metric in baseline.metrics:
        place = baseline.metrics[x.metric], baseline.metrics[y.metric]
        point = baseline.trial, baseline.epoch
        marks.insert(0, Mark("baseline", *place, "none", "diamond-open", point))
    return marks


def add_mark(figure: go.Figure, mark: Mark) -> None:
    """Draws one; what is a trial's does not answer the pointer, its target does."""
    figure.add_scatter(
        x=[mark.x],
        y=[mark.y],
        mode="markers",
        name=html.escape(mark.name),
        marker={
            "size": 15,
            "symbol": mark.symbol,
            "color": head_colour(mark.kind),
            "line": {"width": 2, "color": head_colour(mark.kind)},
        },
        hovertext=mark_hover(mark),
        hoverinfo="text" if mark.point is None else "skip",
    )


def mark_hover(mark: Mark) -> str:
    """Its name, whose point it is, and its place, escaped."""
    of = "" if mark.point is None else f"<br>{html.escape(mark.point[0])}, epoch {mark.point[1]}"
    return f"<b>{html.escape(mark.name)}</b>{of}<br>{number(mark.y)} at {number(mark.x)}"
