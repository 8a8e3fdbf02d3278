"""Each trial's way through the plane of the objectives while it trains: where the front comes from."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
import plotly.graph_objects as go

from dashboards.figures.axes import Axis, drawn_axis, log_ticks, number, objective_axes
from dashboards.figures.samples import some_of
from dashboards.figures.style import head_colour, new_figure
from orchestrator.front_table import FrontTable

_KIND = "param.head.kind"
MAX_OTHERS = 240
"""Trials that are not on the front are drawn up to this many: more of them cover each other."""


class Trajectory(NamedTuple):
    """One trial, in order of epochs."""

    trial: str
    kind: str
    on_front: bool
    epochs: list[int]
    x: list[float]
    y: list[float]


class TrajectoriesInfo(NamedTuple):
    """What is drawn.

    Attributes:
        trajectories: of the trials with points on the front, and of others some.
        num_trials: that have any point.
        ticks: of a logarithmic x axis.
        y_ticks: of a logarithmic y axis.
    """

    x: Axis
    y: Axis
    trajectories: list[Trajectory]
    num_trials: int
    ticks: list[float]
    y_ticks: list[float]


def info(table: FrontTable) -> TrajectoriesInfo:
    """Computes the ways; a trial with one point has none, and is left out."""
    x, y = objective_axes(table)
    points = table.points
    kinds = points[_KIND].astype(str) if _KIND in points else "trial"
    columns = pd.DataFrame(
        {
            "trial": points["trial"],
            "epoch": points["epoch"],
            "x": points[x.metric],
            "y": points[y.metric],
            "kind": kinds,
            "on_front": points["on_front"],
        }
    ).sort_values(["trial", "epoch"])
    found = [
        Trajectory(
            str(trial),
            str(group["kind"].iloc[0]),
            bool(group["on_front"].any()),
            group["epoch"].astype(int).tolist(),
            group["x"].tolist(),
            group["y"].tolist(),
        )
        for trial, group in columns.loc[columns["trial"].isin(_shown(columns))].groupby("trial")
        if len(group) > 1
    ]
    num_trials = len(set(columns["trial"].tolist()))
    ticks, y_ticks = (log_ticks(points[axis.metric].tolist()) for axis in (x, y))
    return TrajectoriesInfo(x, y, found, num_trials, ticks, y_ticks)


def _shown(points: pd.DataFrame) -> list[str]:
    """The trials on the front, and some of the others."""
    on_front = points.loc[points["on_front"], "trial"].unique().tolist()
    others = sorted(set(points["trial"]) - set(on_front))
    return [*on_front, *some_of(others, MAX_OTHERS)]


def plot(drawn: TrajectoriesInfo) -> go.Figure:
    """One trace a head kind and importance, with gaps between the trials."""
    figure = new_figure()
    for is_strong in (False, True):
        kinds: dict[str, list[Trajectory]] = {}
        for way in drawn.trajectories:
            if way.on_front == is_strong:
                kinds.setdefault(way.kind, []).append(way)
        for _, ways in sorted(kinds.items()):
            _add_ways(figure, ways, drawn, is_strong=is_strong)
    figure.update_xaxes(**drawn_axis(drawn.x, drawn.ticks))
    figure.update_yaxes(**drawn_axis(drawn.y, drawn.y_ticks))
    figure.update_layout(hovermode="closest")
    return figure


def _add_ways(
    figure: go.Figure, ways: Sequence[Trajectory], drawn: TrajectoriesInfo, *, is_strong: bool
) -> None:
    """Ways of one kind, strong ones or faint ones."""
    kind = ways[0].kind
    figure.add_scatter(
        x=[value for way in ways for value in (*way.x, None)],
        y=[value for way in ways for value in (*way.y, None)],
        customdata=[row for way in ways for row in (*([way.trial, e] for e in way.epochs), None)],
        hovertext=[text for way in ways for text in (*_hovers(way, drawn), "")],
        hoverinfo="text",
        mode="lines+markers",
        line={"color": head_colour(kind), "width": 2 if is_strong else 1},
        marker={"size": 5 if is_strong else 3},
        opacity=0.95 if is_strong else 0.3,
        name=html.escape(kind + (", on the front" if is_strong else "")),
    )


def _hovers(way: Trajectory, drawn: TrajectoriesInfo) -> list[str]:
    name = html.escape(way.trial)
    return [
        f"<b>{name}</b>, epoch {epoch}<br>{html.escape(drawn.y.metric)} = {number(y)}"
        f"<br>{html.escape(drawn.x.metric)} = {number(x)}"
        for epoch, x, y in zip(way.epochs, way.x, way.y, strict=True)
    ]
