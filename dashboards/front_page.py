"""The interactive page of a front."""

from __future__ import annotations

import html
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from dashboards.front_info import (
    CONFIRMED,
    FrontInfo,
    colour,
    has_source,
    is_missing,
    log_ticks,
    number,
    step,
)
from orchestrator.front_table import FRONT_PROBABILITY, NUM_SEEDS

_PLOT_CONFIG = {"responsive": True, "displaylogo": False, "scrollZoom": True}


def plot(drawn: FrontInfo) -> go.Figure:
    """The interactive figure; readable from 400 px of width."""
    figure = go.Figure()
    for kind, points in _off_front(drawn).groupby("kind", sort=True):
        figure.add_scatter(
            x=points[drawn.x.metric],
            y=points[drawn.y.metric],
            mode="markers",
            name=html.escape(str(kind)),
            marker={
                "size": 6,
                "color": colour(str(kind)),
                "opacity": 0.35,
                "symbol": ["circle" if holds else "circle-open" for holds in points["is_feasible"]],
            },
            hovertext=points["hover"],
            hoverinfo="text",
        )
    outline = {"color": "#222222", "width": 1.5}
    if len(drawn.confirmed):
        _add_confirmed(figure, drawn.confirmed)
    figure.add_scatter(
        x=drawn.front[drawn.x.metric],
        y=drawn.front[drawn.y.metric],
        mode="lines+markers" if drawn.has_line else "markers",
        name="front",
        showlegend=False,
        line={**outline, "shape": step(drawn)},
        marker={
            "size": [15 if is_picked else 11 for is_picked in drawn.front["is_picked"]],
            "symbol": ["star" if is_picked else "circle" for is_picked in drawn.front["is_picked"]],
            "color": [colour(str(kind)) for kind in drawn.front["kind"]],
            "line": outline,
        },
        hovertext=drawn.front["hover"],
        hoverinfo="text",
    )
    # The legend shows a marker's own colour, and the front has several.
    neutral = {"size": 11, "color": "white", "line": outline}
    figure.add_scatter(
        x=[None], y=[None], mode="lines+markers", name="front", line=outline, marker=neutral
    )
    figure.update_layout(
        template="plotly_white",
        margin={"l": 55, "r": 15, "t": 35, "b": 90},
        legend={"orientation": "h", "y": -0.2, "yanchor": "top", "x": 0.5, "xanchor": "center"},
        hoverlabel={"align": "left", "font": {"size": 11}},
    )
    figure.update_xaxes(title_text=drawn.x.label, **_log_axis(drawn))
    figure.update_yaxes(title_text=drawn.y.label)
    return figure


def _add_confirmed(figure: go.Figure, confirmed: pd.DataFrame) -> None:
    """The means under further seeds with one deviation to each side."""
    bars = {"type": "data", "thickness": 1, "width": 3, "color": "#888888"}
    figure.add_scatter(
        x=confirmed["x"],
        y=confirmed["y"],
        mode="markers",
        name=CONFIRMED,
        marker={"size": 8, "symbol": "x", "color": [colour(str(kind)) for kind in confirmed["kind"]]},
        error_x={**bars, "array": confirmed["x_std"].tolist()},
        error_y={**bars, "array": confirmed["y_std"].tolist()},
        hovertext=confirmed["hover"],
        hoverinfo="text",
    )


def _off_front(drawn: FrontInfo) -> pd.DataFrame:
    """The points that do not lie where one of the front does: there the front's own tells its name."""
    axes = [drawn.x.metric, drawn.y.metric]
    taken = set(drawn.front[axes].itertuples(index=False, name=None))
    free = [place not in taken for place in drawn.points[axes].itertuples(index=False, name=None)]
    return drawn.points.loc[free]


def _log_axis(drawn: FrontInfo) -> dict[str, Any]:
    if not drawn.x.logarithmic:
        return {}
    ticks = log_ticks(drawn)
    return {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def to_html(drawn: FrontInfo) -> str:
    """A self-contained page: the figure, and the front as a table with names and ids to copy."""
    figure = plot(drawn).to_html(full_html=False, include_plotlyjs=True, config=_PLOT_CONFIG)
    return _PAGE.format(
        title=html.escape(drawn.title),
        num_points=len(drawn.points),
        num_trials=drawn.points["trial"].nunique(),
        num_front=len(drawn.front),
        note=html.escape(drawn.note),
        figure=figure,
        table=_table(drawn),
    )


def _table(drawn: FrontInfo) -> str:
    columns = {
        drawn.y.metric: drawn.y.metric,
        drawn.x.metric: drawn.x.metric,
        "kind": "head",
        "trial": "run",
        "epoch": "epoch",
        "run_id": "run id",
        "source": "from",
        NUM_SEEDS: "further seeds",
        **{f"{metric}_spread": f"{metric} under them" for metric in (drawn.y.metric, drawn.x.metric)},
        FRONT_PROBABILITY: "probability on the front",
    }
    rows = drawn.front.to_dict("records")
    has_sources = any(map(has_source, rows))
    present = {
        column: name
        for column, name in columns.items()
        if column in drawn.front and (has_sources or column != "source")
    }
    head = "".join(f"<th>{html.escape(name)}</th>" for name in present.values())
    body = "".join(
        "<tr>" + "".join(f"<td>{_cell(row[column])}</td>" for column in present) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: object) -> str:
    return "" if is_missing(value) else html.escape(number(value))


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 14px/1.4 system-ui, sans-serif; margin: 8px; color: #222; }}
.figure {{ height: min(70vh, 480px); min-height: 320px; }}
.figure > div {{ height: 100%; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 12px; }}
th, td {{ padding: 3px 8px; text-align: left; border-bottom: 1px solid #ddd; white-space: nowrap; }}
h1 {{ font-size: 16px; margin: 4px 2px; }}
p {{ color: #555; margin: 4px 2px; }}
</style></head><body>
<h1>{title}</h1>
<p>{num_front} points on the front, of {num_points} validated epochs of {num_trials} trials.
Hover a point for its configuration. {note}</p>
<div class="figure">{figure}</div>
<div class="scroll">{table}</div>
</body></html>
"""
