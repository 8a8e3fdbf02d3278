"""The front of a sweep in the plane of its objectives: every point faint, the front strong."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboards.figures.axes import (
    Axis,
    drawn_axis,
    log_ticks,
    objective_axes,
    point_names,
    steps,
)
from dashboards.figures.front_marks import Mark, add_mark, front_marks, mark_hover
from dashboards.figures.front_region import Region, front_region
from dashboards.figures.front_seeds import add_confirmed, confirmed_points, with_spreads
from dashboards.figures.front_texts import beside, note, point_hover
from dashboards.figures.samples import one_a_cell
from dashboards.figures.style import INK, SOFT, head_colour, new_figure
from orchestrator.front import Front
from orchestrator.front_table import FrontTable
from orchestrator.trials import Point

_KIND = "param.head.kind"
BESIDE = "beside_baseline"
_POINT_SIZE = 6
_MIN_SPAN = 0.1
"""Of the whole y axis, that the view has on the worse side of a front that is flat."""


class FrontInfo(NamedTuple):
    """What is drawn.

    Attributes:
        x: the axis of the second objective (d_eff); the epoch where there is only one objective.
        y: the axis of the first objective (accuracy, or of pairs of sentences Spearman).
        points: every point that the eye can tell from another, with a column `kind` and a column
            `hover` (HTML).
        num_points: of the sweep, drawn or not.
        front: the front's points, in order along x.
        confirmed: what further seeds say of them: see `confirmed_points`.
        picked: the point of the front that the sweep's settings name; at most one.
        note: what was wanted of the points, which one is picked, and how the untouched encoder does on
            the test pairs, in sentences; empty where nothing.
        title: the sweep's name.
        has_line: whether the front is a line: with more than two objectives its picture is not.
        marks: the baseline and the paper's points.
        region: where the constraints are broken; None where nothing can be shaded.
        ticks: of a logarithmic x axis.
        y_ticks: of a logarithmic y axis.
        view: the part of the y axis that is shown first; None for all of it.
        steps: plotly's word for the line.
        objectives: their names, in the order of the sweep's settings.
    """

    x: Axis
    y: Axis
    points: pd.DataFrame
    num_points: int
    front: pd.DataFrame
    confirmed: pd.DataFrame
    picked: pd.DataFrame
    note: str
    title: str
    has_line: bool
    marks: list[Mark]
    region: Region | None
    ticks: list[float]
    y_ticks: list[float]
    view: tuple[float, float] | None
    steps: str
    objectives: list[str]


def info(
    table: FrontTable,
    front: Front | None = None,
    baseline: Point | None = None,
    paper: Mapping[str, Mapping[str, float]] | None = None,
) -> FrontInfo:
    """Computes everything that is shown.

    Args:
        table: the sweep's points.
        front: that of its record, whose constraints are shown.
        baseline: its point, as far as it is known.
        paper: of each head kind the paper's values by metric, in the units of this project.
    """
    names = list(table.objectives)
    x, y = objective_axes(table)
    kinds = table.points[_KIND].astype(str) if _KIND in table.points else "trial"
    points = one_a_cell(table.points.assign(kind=kinds), x, y)
    points = points.assign(hover=[point_hover(row, names) for row in points.to_dict("records")])
    on_front = points.loc[points["on_front"]].sort_values(by=[x.metric, y.metric], ignore_index=True)
    picked = on_front.loc[on_front["is_picked"]]
    marks = front_marks(x, y, baseline, paper or {})
    shown = (
        [*points[x.metric].tolist(), *(mark.x for mark in marks)],
        [*points[y.metric].tolist(), *(mark.y for mark in marks)],
    )
    return FrontInfo(
        x,
        y,
        points,
        num_points=len(table.points),
        front=_beside_baseline(with_spreads(on_front, names), table, baseline),
        confirmed=confirmed_points(on_front, x, y),
        picked=picked,
        note=note(table, picked),
        view=_view(y, on_front, marks, shown[1]),
        title=table.title,
        has_line=len(names) <= 2,
        marks=marks,
        region=front_region(front, *shown, x, y) if front is not None and len(points) else None,
        ticks=log_ticks(shown[0]),
        y_ticks=log_ticks(shown[1]),
        steps=steps(x),
        objectives=names,
    )


def _view(
    y: Axis, front: pd.DataFrame, marks: Sequence[Mark], shown: Sequence[float]
) -> tuple[float, float] | None:
    """The part of a linear y axis with the front, where early epochs would press it into a corner."""
    values = [*front[y.metric].tolist(), *(mark.y for mark in marks)]
    if y.logarithmic or not values:
        return None
    low, high = min(values), max(values)
    margin = max(high - low, (max(shown) - min(shown)) * _MIN_SPAN)
    worse, better = margin, 0.15 * margin
    below, above = (better, worse) if y.direction == "min" else (worse, better)
    view = (low - below, high + above)
    return view if view[0] > min(shown) or view[1] < max(shown) else None


def _beside_baseline(front: pd.DataFrame, table: FrontTable, baseline: Point | None) -> pd.DataFrame:
    """The front with a text in `BESIDE`, where there is a baseline that says something."""
    if baseline is None:
        return front
    texts = [beside(row, baseline.metrics, table) for row in front.to_dict("records")]
    return front.assign(**{BESIDE: texts}) if all(texts) else front


def plot(drawn: FrontInfo) -> go.Figure:
    """The interactive figure; a point's customdata is its trial and epoch."""
    figure = new_figure()
    if drawn.region is not None:
        _add_region(figure, drawn.region)
    for kind, points in _off_front(drawn).groupby("kind", sort=True):
        figure.add_scatter(
            x=points[drawn.x.metric],
            y=points[drawn.y.metric],
            mode="markers",
            name=html.escape(str(kind)),
            marker={
                "size": _POINT_SIZE,
                "color": head_colour(str(kind)),
                "opacity": 0.38,
                "symbol": ["circle" if holds else "circle-open" for holds in points["is_feasible"]],
            },
            hovertext=points["hover"],
            hoverinfo="text",
            customdata=point_names(points),
        )
    if len(drawn.confirmed):
        add_confirmed(figure, drawn.confirmed)
    for mark in drawn.marks:
        add_mark(figure, mark)
    _add_front(figure, drawn)
    _add_legend(figure, drawn)
    _add_targets(figure, drawn)
    figure.update_xaxes(**drawn_axis(drawn.x, drawn.ticks))
    figure.update_yaxes(**drawn_axis(drawn.y, drawn.y_ticks), range=drawn.view)
    figure.update_layout(hovermode="closest")
    return figure


def _add_front(figure: go.Figure, drawn: FrontInfo) -> None:
    outline = {"color": INK, "width": 1.5}
    figure.add_scatter(
        x=drawn.front[drawn.x.metric],
        y=drawn.front[drawn.y.metric],
        mode="lines+markers" if drawn.has_line else "markers",
        name="front",
        showlegend=False,
        line={**outline, "shape": drawn.steps},
        marker={
            "size": [17 if is_picked else 11 for is_picked in drawn.front["is_picked"]],
            "symbol": ["star" if is_picked else "circle" for is_picked in drawn.front["is_picked"]],
            "color": [head_colour(str(kind)) for kind in drawn.front["kind"]],
            "line": outline,
            "opacity": 1.0,  # plotly makes markers of several sizes translucent
        },
        hoverinfo="skip",
    )


def _add_legend(figure: go.Figure, drawn: FrontInfo) -> None:
    """What the legend says of the front, whose markers have several colours and symbols."""
    outline = {"color": INK, "width": 1.5}
    neutral = {"size": 11, "color": "rgba(0,0,0,0)", "line": outline}
    clouds = set(_off_front(drawn)["kind"].astype(str))
    for kind in sorted(set(drawn.front["kind"].astype(str)) - clouds):
        figure.add_scatter(
            x=[None],
            y=[None],
            mode="markers",
            name=html.escape(kind),
            marker={"color": head_colour(kind)},
        )
    figure.add_scatter(
        x=[None], y=[None], mode="lines+markers", name="front", line=outline, marker=neutral
    )
    if len(drawn.picked):
        star = {**neutral, "size": 14, "symbol": "star"}
        figure.add_scatter(x=[None], y=[None], mode="markers", name="picked", marker=star)


def _add_targets(figure: go.Figure, drawn: FrontInfo) -> None:
    """What is hovered over and clicked on where points lie close together: the front before the marks,
    and both before the others.

    Of markers under the pointer plotly takes the smallest, and of equal ones the last that was drawn: so
    these are as small as the faint ones, and cannot be seen.
    """
    marks = [mark for mark in drawn.marks if mark.point is not None]
    names = [*(list(mark.point) for mark in marks if mark.point), *point_names(drawn.front)]
    hovers = [*map(mark_hover, marks), *drawn.front["hover"]]
    figure.add_scatter(
        x=[*(mark.x for mark in marks), *drawn.front[drawn.x.metric]],
        y=[*(mark.y for mark in marks), *drawn.front[drawn.y.metric]],
        mode="markers",
        name="targets",
        showlegend=False,
        marker={"size": _POINT_SIZE, "opacity": 0.0},
        hovertext=hovers,
        hoverinfo="text",
        customdata=names,
    )


def _add_region(figure: go.Figure, region: Region) -> None:
    """Shades what breaks the constraints."""
    figure.add_contour(
        x=region.x,
        y=region.y,
        z=np.asarray(region.excess, dtype=np.float32),  # a quarter of it as text
        contours={"type": "constraint", "operation": "<=", "value": 0.0},
        fillcolor="rgba(128,128,128,0.16)",
        line={"color": SOFT, "width": 1, "dash": "dot"},
        name=html.escape("breaks " + " and ".join(region.texts)),
        showlegend=True,
        showscale=False,
        hoverinfo="skip",
    )


def _off_front(drawn: FrontInfo) -> pd.DataFrame:
    """The points that do not lie where one of the front does: there the front's own tells its name."""
    axes = [drawn.x.metric, drawn.y.metric]
    taken = set(drawn.front[axes].itertuples(index=False, name=None))
    free = [place not in taken for place in drawn.points[axes].itertuples(index=False, name=None)]
    return drawn.points.loc[free]
