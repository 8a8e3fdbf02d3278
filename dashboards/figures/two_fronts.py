"""The fronts of two sweeps in one plane, each with a colour and a symbol of its own."""

from __future__ import annotations

import html
import math
from typing import NamedTuple

import pandas as pd
import plotly.graph_objects as go

from dashboards.figures.axes import Axis, log_axis, log_ticks
from dashboards.figures.front import FrontInfo
from dashboards.figures.style import SERIES, new_figure

SYMBOLS = ("circle", "diamond")
COLOURS = SERIES[:2]
MAX_OTHERS = 2000
"""Points off a front that are drawn: more would be a surface that hides the other sweep's."""


class OneFront(NamedTuple):
    """A sweep's part.

    Attributes:
        label: what it is called.
        front: its points in order along x: columns `x`, `y`, `trial`, `epoch` and `hover` (HTML).
        others: those that it does not have on the front, thinned: columns `x` and `y`.
    """

    label: str
    front: pd.DataFrame
    others: pd.DataFrame


class TwoFrontsInfo(NamedTuple):
    """What is drawn.

    Attributes:
        x: the axis of the second objective, or the epoch.
        y: that of the first.
        sides: the first sweep and the second.
        ticks: of a logarithmic x axis.
        has_line: whether a front is a line.
        steps: plotly's word for it.
    """

    x: Axis
    y: Axis
    sides: tuple[OneFront, OneFront]
    ticks: list[float]
    has_line: bool
    steps: str


def info(drawn: tuple[FrontInfo, FrontInfo], labels: tuple[str, str]) -> TwoFrontsInfo:
    """Puts two fronts, of sweeps with the same objectives, beside each other."""
    first = drawn[0]
    names = first.x.metric, first.y.metric
    sides = (_side(drawn[0], labels[0], *names), _side(drawn[1], labels[1], *names))
    places = pd.concat([table for side in sides for table in (side.front, side.others)])
    ticks = log_ticks(places["x"].tolist())
    return TwoFrontsInfo(first.x, first.y, sides, ticks, first.has_line, first.steps)


def _side(drawn: FrontInfo, label: str, x: str, y: str) -> OneFront:
    others = drawn.points.loc[~drawn.points["on_front"]]
    others = others.iloc[:: math.ceil(len(others) / MAX_OTHERS) or 1]
    front = drawn.front.sort_values(by=[x, y])  # its own sweep may have the objectives the other way
    return OneFront(
        label,
        pd.DataFrame(
            {
                "x": front[x].tolist(),
                "y": front[y].tolist(),
                **{name: front[name].tolist() for name in ("trial", "epoch", "hover")},
            }
        ),
        pd.DataFrame({"x": others[x].tolist(), "y": others[y].tolist()}),
    )


def plot(drawn: TwoFrontsInfo) -> go.Figure:
    """The interactive figure."""
    figure = new_figure()
    for side, colour, symbol in zip(drawn.sides, COLOURS, SYMBOLS, strict=True):
        figure.add_scatter(
            x=side.others["x"],
            y=side.others["y"],
            mode="markers",
            showlegend=False,
            marker={"size": 4, "color": colour, "opacity": 0.25, "symbol": symbol},
            hoverinfo="skip",
        )
    # The second is drawn above the first and leaves its rim to be seen where both share a point.
    for side, colour, symbol, size in zip(drawn.sides, COLOURS, SYMBOLS, (13, 8), strict=True):
        figure.add_scatter(
            x=side.front["x"],
            y=side.front["y"],
            mode="lines+markers" if drawn.has_line else "markers",
            name=html.escape(side.label),
            line={"color": colour, "width": 2, "shape": drawn.steps},
            marker={"size": size, "color": colour, "symbol": symbol},
            hovertext=[f"<b>{html.escape(side.label)}</b><br>{text}" for text in side.front["hover"]],
            hoverinfo="text",
        )
    figure.update_xaxes(title_text=drawn.x.label, **log_axis(drawn.x.logarithmic, drawn.ticks))
    figure.update_yaxes(title_text=drawn.y.label)
    figure.update_layout(hovermode="closest")
    return figure
