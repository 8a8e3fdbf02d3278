"""The head kinds against each other: the front that each has by itself, and what it holds."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
import plotly.graph_objects as go

from dashboards.figures.axes import Axis, drawn_axis, log_ticks, objective_axes, steps
from dashboards.figures.style import head_colour, new_figure
from orchestrator.front import Front
from orchestrator.front_table import FrontTable
from orchestrator.pareto import Values, hypervolume, minimised, nondominated
from orchestrator.record import SweepRecord

_KIND = "param.head.kind"


class HeadKind(NamedTuple):
    """What one head kind reached.

    Attributes:
        kind: such as monotonic.
        num_trials: that have any point.
        num_on_front: of its points on the sweep's front.
        x: along the second objective, of its own front.
        y: the first objective there.
        best: its best value of the first objective.
        x_at_best: the second one there.
        hypervolume: of its own feasible front, 0 where none is; None while there is no reference point.
    """

    kind: str
    num_trials: int
    num_on_front: int
    x: list[float]
    y: list[float]
    best: float
    x_at_best: float
    hypervolume: float | None


class HeadKindsInfo(NamedTuple):
    """What is drawn.

    Attributes:
        ticks: of a logarithmic x axis.
        y_ticks: of a logarithmic y axis.
        steps: plotly's word for the lines.
        has_lines: whether fronts are lines: with more than two objectives their pictures are not.
    """

    x: Axis
    y: Axis
    kinds: list[HeadKind]
    ticks: list[float]
    y_ticks: list[float]
    steps: str
    has_lines: bool


def info(table: FrontTable, record: SweepRecord) -> HeadKindsInfo | None:
    """None where there are no points, or all are of one kind."""
    if _KIND not in table.points:
        return None
    points = table.points.assign(kind=table.points[_KIND].astype(str))
    if len(set(points["kind"].tolist())) < 2:
        return None
    x, y = objective_axes(table)
    kinds = [
        _head_kind(str(kind), group, x, y, record) for kind, group in points.groupby("kind", sort=True)
    ]
    return HeadKindsInfo(
        x,
        y,
        kinds,
        ticks=log_ticks([value for kind in kinds for value in kind.x]),
        y_ticks=log_ticks([value for kind in kinds for value in kind.y]),
        steps=steps(x),
        has_lines=len(table.objectives) <= 2,
    )


def _head_kind(kind: str, points: pd.DataFrame, x: Axis, y: Axis, record: SweepRecord) -> HeadKind:
    """What these points reached: those that hold the constraints, or where none does all of them."""
    is_feasible = any(points["is_feasible"].tolist())
    counting = points.loc[points["is_feasible"]] if is_feasible else points
    values = _minimised(counting, record.front)
    own = counting.loc[nondominated(values)].sort_values([x.metric, y.metric])
    xs, ys = own[x.metric].tolist(), own[y.metric].tolist()
    best = _best(ys, y)
    return HeadKind(
        kind,
        num_trials=len(set(points["trial"].tolist())),
        num_on_front=sum(points["on_front"].tolist()),
        x=xs,
        y=ys,
        best=ys[best],
        x_at_best=xs[best],
        hypervolume=_hypervolume(values if is_feasible else values[:0], record.front),
    )


def _minimised(points: pd.DataFrame, front: Front) -> Values:
    signs = [-1.0 if direction == "max" else 1.0 for direction in front.objectives.values()]
    return points[list(front.objectives)].to_numpy(dtype=float) * signs


def _best(values: Sequence[float], axis: Axis) -> int:
    """The place of the best value, the first of equals."""
    return values.index(min(values) if axis.direction == "min" else max(values))


def _hypervolume(values: Values, front: Front) -> float | None:
    if not front.has_hypervolume or front.reference is None:
        return None
    return hypervolume(values, minimised(front.reference, front.objectives))


def plot(drawn: HeadKindsInfo) -> go.Figure:
    """Each kind's own front as a line."""
    figure = new_figure()
    for kind in drawn.kinds:
        figure.add_scatter(
            x=kind.x,
            y=kind.y,
            mode="lines+markers" if drawn.has_lines else "markers",
            name=html.escape(kind.kind),
            line={"color": head_colour(kind.kind), "shape": drawn.steps, "width": 2},
            marker={"size": 7},
            hovertemplate=f"{html.escape(kind.kind)}: %{{y:.4g}} at %{{x:.4g}}<extra></extra>",
        )
    figure.update_xaxes(**drawn_axis(drawn.x, drawn.ticks))
    figure.update_yaxes(**drawn_axis(drawn.y, drawn.y_ticks))
    return figure
