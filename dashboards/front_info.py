"""What the page and the picture of a front show, computed: they only draw it."""

from __future__ import annotations

import html
import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from orchestrator.front_table import FRONT_PROBABILITY, NUM_SEEDS, FrontTable
from trainables.reports import METRICS, Direction

HEAD_COLOURS = {"none": "#7a7f87", "mlp": "#e08214", "monotonic": "#1f6fb4"}
_OTHER_COLOUR = "#4d4d4d"
_KIND = "param.head.kind"
_LABELS = {
    "knn_accuracy": "5-NN accuracy (validation)",
    "spearman": "Spearman (validation)",
    "d_eff": "d_eff (components for 99 % of variance)",
}
_OF_SCORES = "spearman"
"""The metric that is called after the pairs it is of."""
_UNTOUCHED = "test_untouched_spearman"
CONFIRMED = "mean under further seeds"
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
        y: the axis of the first objective (accuracy, or of pairs of sentences Spearman).
        points: every point with a column `kind` and a column `hover` (HTML).
        front: the front's points, in order along x.
        confirmed: what further seeds say of them: columns `x`, `y`, `x_std` and `y_std` (0 where there
            is no deviation), `kind` and `hover`; empty where nothing is confirmed.
        picked: the point of the front that the sweep's settings name; at most one.
        note: what was wanted of the points, which one is picked, and how the untouched encoder does on
            the test pairs, in sentences; empty where nothing.
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
                None if is_missing(row[NUM_SEEDS]) else _spread(row, name)
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
    return " ".join(sentences + _untouched(table.points))


def _untouched(points: pd.DataFrame) -> list[str]:
    """What a final evaluation says of the encoder as it was: on other pairs than the front is of."""
    values = points[_UNTOUCHED].dropna().tolist() if _UNTOUCHED in points else []
    if not values:
        return []
    ends = dict.fromkeys(number(float(value)) for value in (min(values), max(values)))
    return [
        f"The untouched encoder's Spearman correlation on the test pairs is {' to '.join(ends)}; the "
        "front is of the validation pairs, so it is not drawn there."
    ]


def _axis(metric: str, table: FrontTable) -> Axis:
    label = _LABELS.get(metric, METRICS[metric].description if metric in METRICS else metric)
    if metric == _OF_SCORES and table.scored_on:
        label = f"{table.scored_on} {label}"
    return Axis(metric, label, metric in _LOGARITHMIC, table.objectives[metric])


def _hover(row: dict[Any, Any], objectives: list[str]) -> str:
    """The point's name, values and configuration, escaped."""
    lines = [f"<b>{html.escape(str(row['trial']))}</b>, epoch {row['epoch']}"]
    lines += [f"{name} = {number(row[name])}" for name in objectives]
    if not is_missing(row.get(NUM_SEEDS)):
        lines += [
            f"{name} under {row[NUM_SEEDS]} further seeds: {_spread(row, name)}" for name in objectives
        ]
        lines.append(f"probability to be on the front then: {row[FRONT_PROBABILITY]:.0%}")
    if not row["is_feasible"]:
        lines.append("breaks the constraints")
    lines += [
        f"{html.escape(str(name).removeprefix('param.'))} = {html.escape(number(value))}"
        for name, value in row.items()
        if str(name).startswith("param.") and not is_missing(value)
    ]
    if has_source(row):
        lines.append(html.escape(_from(row).strip()))
    if not is_missing(row.get("run_id")):
        lines.append(f"run {html.escape(str(row['run_id']))}")
    return "<br>".join(lines)


def has_source(row: dict[Any, Any]) -> bool:
    """Whether the point is an imported one."""
    return not is_missing(row.get("source")) and row["source"] != ""


def _from(row: dict[Any, Any]) -> str:
    """Where an imported point is from; empty for one of the sweep's own."""
    return f" from {row['source']}" if has_source(row) else ""


def _spread(row: dict[Any, Any], name: str) -> str:
    """Mean and deviation under further seeds; the mean alone where one seed has none."""
    mean, deviation = row[f"{name}_mean"], row[f"{name}_std"]
    return number(mean) if is_missing(deviation) else f"{number(mean)} ± {deviation:.2g}"


def is_missing(value: object) -> bool:
    """Whether a cell of a table is empty."""
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def number(value: object) -> str:
    """A value as people read it: floats to four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def log_ticks(drawn: FrontInfo) -> list[float]:
    """1, 2, 5, 10, ... over the points' range."""
    values = [float(value) for value in drawn.points[drawn.x.metric].tolist()] or [1.0, 10.0]
    low, high = min(values), max(values)
    decades = range(int(np.floor(np.log10(max(low, 1e-12)))), int(np.ceil(np.log10(max(high, 1)))) + 1)
    ticks = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
    return [tick for tick in ticks if low / 2 <= tick <= high * 2]


def step(drawn: FrontInfo) -> str:
    """The border of the dominated region: with x minimised a value holds to the next one's right."""
    return "vh" if drawn.x.direction == "max" else "hv"


def colour(kind: str) -> str:
    """Of a head kind's points."""
    return HEAD_COLOURS.get(kind, _OTHER_COLOUR)
