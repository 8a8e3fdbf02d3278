"""The front as an interactive page, a picture and a CSV file.

`render` is handed to the tracker by `orchestrator.sweep`; `info` computes, the others only draw.
"""

from __future__ import annotations

import html
import io
import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from orchestrator.front_table import FRONT_PROBABILITY, NUM_SEEDS, FrontTable
from trainables.reports import METRICS, Direction

HEAD_COLOURS = {"none": "#7a7f87", "mlp": "#e08214", "monotonic": "#1f6fb4"}
_OTHER_COLOUR = "#4d4d4d"
_KIND = "param.head.kind"
_LABELS = {
    "knn_accuracy": "5-NN accuracy (validation)",
    "d_eff": "d_eff (components for 99 % of variance)",
}
_PLOT_CONFIG = {"responsive": True, "displaylogo": False, "scrollZoom": True}
_CONFIRMED = "mean under further seeds"
_LOGARITHMIC = ("d_eff", "d_eff_90", "d_eff_95", "d_eff_999", "encoder_d_eff", "unnormalized_d_eff")


class Axis(NamedTuple):
    """One axis: the metric, its label, whether it is logarithmic, its direction."""

    metric: str
    label: str
    logarithmic: bool
    direction: Direction | None


class FrontInfo(NamedTuple):
    """What is drawn.

    Attributes:
        x: the axis of the second objective (d_eff); the epoch where there is only one objective.
        y: the axis of the first objective (accuracy).
        points: every point with a column `kind` and a column `hover` (HTML).
        front: the front's points, in order along x.
        confirmed: what further seeds say of them: columns `x`, `y`, `x_std` and `y_std` (0 where there
            is no deviation), `kind` and `hover`; empty where nothing is confirmed.
        picked: the point of the front that the sweep's settings name; at most one.
        note: what was wanted of the points and which one is picked, one sentence; empty where nothing.
        title: the sweep's name.
        has_line: whether the front is a line: with more than two objectives its picture is not.
    """

    x: Axis
    y: Axis
    points: pd.DataFrame
    front: pd.DataFrame
    confirmed: pd.DataFrame
    picked: pd.DataFrame
    note: str
    title: str
    has_line: bool


def render(table: FrontTable) -> dict[str, bytes]:
    """The pages of a sweep: file name to content."""
    drawn = info(table)
    return {
        "pareto_front.html": to_html(drawn).encode(),
        "pareto_front.png": to_png(drawn),
        "pareto_front.csv": table.front.drop(columns=["on_front"]).to_csv(index=False).encode(),
    }


def info(table: FrontTable) -> FrontInfo:
    """Computes everything that the page shows."""
    names = list(table.objectives)
    y = _axis(names[0], table)
    x = _axis(names[1], table) if len(names) > 1 else Axis("epoch", "epoch", False, None)
    has_kind = _KIND in table.points.columns
    points = table.points.assign(
        kind=table.points[_KIND].astype(str) if has_kind else "trial",
        hover=[_hover(row, names) for row in table.points.to_dict("records")],
    )
    front = points.loc[points["on_front"]].sort_values(by=[x.metric, y.metric], ignore_index=True)
    picked = front.loc[front["is_picked"]]
    confirmed = _confirmed(front, x, y)
    if len(confirmed):
        spreads = {
            f"{name}_spread": [
                None if _is_missing(row[NUM_SEEDS]) else _spread(row, name)
                for row in front.to_dict("records")
            ]
            for name in names
        }
        front = front.assign(**spreads)
    return FrontInfo(
        x,
        y,
        points,
        front,
        confirmed,
        picked,
        note=_note(table, picked),
        title=table.title,
        has_line=len(names) <= 2,
    )


def _confirmed(front: pd.DataFrame, x: Axis, y: Axis) -> pd.DataFrame:
    """The confirmed points of the front at the means of their further seeds."""
    columns = ["x", "y", "x_std", "y_std", "kind", "hover"]
    if NUM_SEEDS not in front:
        return pd.DataFrame(columns=columns)
    known = front.loc[front[NUM_SEEDS].notna()].reset_index(drop=True)
    # An epoch has neither mean nor deviation.
    means = [known.get(f"{axis.metric}_mean", known[axis.metric]) for axis in (x, y)]
    deviations = [
        known.get(f"{axis.metric}_std", 0.0 * mean) for axis, mean in zip((x, y), means, strict=True)
    ]
    return pd.DataFrame(
        {
            "x": means[0],
            "y": means[1],
            "x_std": deviations[0].fillna(0.0),
            "y_std": deviations[1].fillna(0.0),
            "kind": known["kind"],
            "hover": known["hover"],
        },
        columns=columns,
    )


def _note(table: FrontTable, picked: pd.DataFrame) -> str:
    sentences = []
    if table.constraints:
        num_feasible = sum(table.points["is_feasible"].tolist())
        sentences.append(
            f"{num_feasible} of {len(table.points)} points hold {' and '.join(table.constraints)}."
        )
        if len(table.points) and not num_feasible:
            sentences.append("Shown as the front is the one that is nearest to it.")
        elif num_feasible < len(table.points):
            sentences.append("Hollow points break them.")
    sentences += [
        f"Picked by {table.pick}: {point['trial']}{_from(point)}, epoch {point['epoch']}."
        for point in picked.to_dict("records")
    ]
    return " ".join(sentences)


def _axis(metric: str, table: FrontTable) -> Axis:
    label = _LABELS.get(metric, METRICS[metric].description if metric in METRICS else metric)
    return Axis(metric, label, metric in _LOGARITHMIC, table.objectives[metric])


def _hover(row: dict[Any, Any], objectives: list[str]) -> str:
    """The point's name, values and configuration, escaped."""
    lines = [f"<b>{html.escape(str(row['trial']))}</b>, epoch {row['epoch']}"]
    lines += [f"{name} = {_number(row[name])}" for name in objectives]
    if not _is_missing(row.get(NUM_SEEDS)):
        lines += [
            f"{name} under {row[NUM_SEEDS]} further seeds: {_spread(row, name)}" for name in objectives
        ]
        lines.append(f"probability to be on the front then: {row[FRONT_PROBABILITY]:.0%}")
    if not row["is_feasible"]:
        lines.append("breaks the constraints")
    lines += [
        f"{html.escape(str(name).removeprefix('param.'))} = {html.escape(_number(value))}"
        for name, value in row.items()
        if str(name).startswith("param.") and not _is_missing(value)
    ]
    if _has_source(row):
        lines.append(html.escape(_from(row).strip()))
    if not _is_missing(row.get("run_id")):
        lines.append(f"run {html.escape(str(row['run_id']))}")
    return "<br>".join(lines)


def _has_source(row: dict[Any, Any]) -> bool:
    """Whether the point is an imported one."""
    return not _is_missing(row.get("source")) and row["source"] != ""


def _from(row: dict[Any, Any]) -> str:
    """Where an imported point is from; empty for one of the sweep's own."""
    return f" from {row['source']}" if _has_source(row) else ""


def _spread(row: dict[Any, Any], name: str) -> str:
    """Mean and deviation under further seeds; the mean alone where one seed has none."""
    mean, deviation = row[f"{name}_mean"], row[f"{name}_std"]
    return _number(mean) if _is_missing(deviation) else f"{_number(mean)} ± {deviation:.2g}"


def _is_missing(value: object) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


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
                "color": _colour(str(kind)),
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
        line={**outline, "shape": _step(drawn)},
        marker={
            "size": [15 if is_picked else 11 for is_picked in drawn.front["is_picked"]],
            "symbol": ["star" if is_picked else "circle" for is_picked in drawn.front["is_picked"]],
            "color": [_colour(str(kind)) for kind in drawn.front["kind"]],
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
        name=_CONFIRMED,
        marker={"size": 8, "symbol": "x", "color": [_colour(str(kind)) for kind in confirmed["kind"]]},
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
    ticks = _log_ticks(drawn)
    return {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def _log_ticks(drawn: FrontInfo) -> list[float]:
    """1, 2, 5, 10, ... over the points' range."""
    values = [float(value) for value in drawn.points[drawn.x.metric].tolist()] or [1.0, 10.0]
    low, high = min(values), max(values)
    decades = range(int(np.floor(np.log10(max(low, 1e-12)))), int(np.ceil(np.log10(max(high, 1)))) + 1)
    ticks = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
    return [tick for tick in ticks if low / 2 <= tick <= high * 2]


def _step(drawn: FrontInfo) -> str:
    """The border of the dominated region: with x minimised a value holds to the next one's right."""
    return "vh" if drawn.x.direction == "max" else "hv"


def _colour(kind: str) -> str:
    return HEAD_COLOURS.get(kind, _OTHER_COLOUR)


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
    has_sources = any(map(_has_source, rows))
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
    return "" if _is_missing(value) else html.escape(_number(value))


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


def to_png(drawn: FrontInfo) -> bytes:
    """The same picture for a README or a chat."""
    figure = Figure(figsize=(7.2, 4.2), dpi=144, layout="constrained")
    axes = figure.subplots()
    for kind, points in drawn.points.groupby("kind", sort=True):
        colour = _colour(str(kind))
        axes.scatter(
            points[drawn.x.metric], points[drawn.y.metric], label=str(kind),
            s=16, linewidths=[0.0 if holds else 0.8 for holds in points["is_feasible"]],
            facecolors=[to_rgba(colour, 0.3 * holds) for holds in points["is_feasible"]],
            edgecolors=to_rgba(colour, 0.3),
        )  # fmt: skip
    front = drawn.front
    where = "pre" if _step(drawn) == "vh" else "post"
    if drawn.has_line:
        axes.step(front[drawn.x.metric], front[drawn.y.metric], where=where, color="#222222", lw=1.2)
    axes.scatter(
        front[drawn.x.metric], front[drawn.y.metric],
        s=52, zorder=3, color=[_colour(str(kind)) for kind in front["kind"]],
        edgecolors="#222222", linewidths=1.2,
    )  # fmt: skip
    if len(drawn.confirmed):
        confirmed = drawn.confirmed
        axes.errorbar(
            confirmed["x"], confirmed["y"], xerr=confirmed["x_std"], yerr=confirmed["y_std"],
            fmt="x", ms=5, color="#555555", elinewidth=0.8, capsize=2, zorder=2, label=_CONFIRMED,
        )  # fmt: skip
    axes.plot([], [], "o-", color="#222222", lw=1.2, markerfacecolor="white", label="front")
    if len(drawn.picked):
        axes.scatter(
            drawn.picked[drawn.x.metric], drawn.picked[drawn.y.metric],
            s=150, zorder=4, marker="*", color=[_colour(str(kind)) for kind in drawn.picked["kind"]],
            edgecolors="#222222", linewidths=1.0, label="picked",
        )  # fmt: skip
    if drawn.x.logarithmic:
        axes.set_xscale("log")
        ticks = _log_ticks(drawn)
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    axes.set_xlabel(drawn.x.label)
    axes.set_ylabel(drawn.y.label)
    axes.set_title(drawn.title, loc="left", fontsize=10, parse_math=False)
    axes.grid(alpha=0.25)
    if len(drawn.points):
        axes.legend(loc="lower right", fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
