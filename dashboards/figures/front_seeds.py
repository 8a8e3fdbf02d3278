"""What further seeds say of a front's points, in its plane and in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd
import plotly.graph_objects as go

from dashboards.figures.axes import Axis, is_missing, point_names
from dashboards.figures.front_texts import spread
from dashboards.figures.style import SOFT, head_colour
from orchestrator.front_table import NUM_SEEDS

CONFIRMED = "mean under further seeds"


def with_spreads(front: pd.DataFrame, objectives: Sequence[str]) -> pd.DataFrame:
    """The front with a text `NAME_spread` of each objective where further seeds say something."""
    if NUM_SEEDS not in front:
        return front
    rows = front.to_dict("records")
    return front.assign(
        **{
            f"{name}_spread": [None if is_missing(row[NUM_SEEDS]) else spread(row, name) for row in rows]
            for name in objectives
        }
    )


def confirmed_points(front: pd.DataFrame, x: Axis, y: Axis) -> pd.DataFrame:
    """The confirmed points of the front at the means of their further seeds.

    Returns:
        Columns `trial`, `epoch`, `x`, `y`, `x_std` and `y_std` (0 where there is no deviation),
        `front_x` and `front_y` (where the front has the point), `kind` and `hover`; no rows where
        nothing is confirmed.
    """
    columns = ["trial", "epoch", "x", "y", "x_std", "y_std", "front_x", "front_y", "kind", "hover"]
    if NUM_SEEDS not in front:
        return pd.DataFrame(columns=columns)
    known = front.loc[front[NUM_SEEDS].notna()].reset_index(drop=True)
    rows = known.to_dict("records")
    # An epoch has neither mean nor deviation.
    means = [known.get(f"{axis.metric}_mean", known[axis.metric]) for axis in (x, y)]
    deviations = [
        known.get(f"{axis.metric}_std", 0.0 * mean) for axis, mean in zip((x, y), means, strict=True)
    ]
    return pd.DataFrame(
        {
            "trial": known["trial"],
            "epoch": known["epoch"],
            "x": means[0],
            "y": means[1],
            "x_std": deviations[0].fillna(0.0),
            "y_std": deviations[1].fillna(0.0),
            "front_x": known[x.metric],
            "front_y": known[y.metric],
            "kind": known["kind"],
            "hover": [f"mean of {row[NUM_SEEDS]} further seeds of<br>{row['hover']}" for row in rows],
        },
        columns=columns,
    )


def add_confirmed(figure: go.Figure, confirmed: pd.DataFrame) -> None:
    """The means under further seeds with one deviation to each side, tied to the points they are of."""
    figure.add_scatter(
        x=_between(confirmed["front_x"], confirmed["x"]),
        y=_between(confirmed["front_y"], confirmed["y"]),
        mode="lines",
        line={"color": SOFT, "width": 1, "dash": "dot"},
        showlegend=False,
        hoverinfo="skip",
    )
    bars = {"type": "data", "thickness": 1, "width": 3, "color": SOFT}
    figure.add_scatter(
        x=confirmed["x"],
        y=confirmed["y"],
        mode="markers",
        name=CONFIRMED,
        marker={"size": 8, "symbol": "x", "color": [head_colour(str(k)) for k in confirmed["kind"]]},
        error_x={**bars, "array": confirmed["x_std"].tolist()},
        error_y={**bars, "array": confirmed["y_std"].tolist()},
        hovertext=confirmed["hover"],
        hoverinfo="text",
        customdata=point_names(confirmed),
    )


def _between(starts: Iterable[float], ends: Iterable[float]) -> list[float | None]:
    """The coordinates of lines with gaps between them."""
    return [place for pair in zip(starts, ends, strict=True) for place in (*pair, None)]
