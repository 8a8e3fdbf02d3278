"""What a front's figure says of points and of itself, in words; hovers are HTML, escaped."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

import pandas as pd

from dashboards.figures.axes import is_missing, number
from orchestrator.front_table import FRONT_PROBABILITY, NUM_SEEDS, FrontTable

_UNTOUCHED = "test_untouched_spearman"


def note(table: FrontTable, picked: pd.DataFrame) -> str:
    """What was wanted of the points, and which one is picked, in sentences."""
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
    if len(table.objectives) > 2:
        sentences.append(
            f"Drawn are two of {len(table.objectives)} objectives: what looks dominated here is on the "
            "front for another one."
        )
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


def point_hover(row: dict[Any, Any], objectives: list[str]) -> str:
    """The point's name, values and configuration, escaped."""
    lines = [f"<b>{html.escape(str(row['trial']))}</b>, epoch {row['epoch']}"]
    lines += [f"{html.escape(name)} = {number(row[name])}" for name in objectives]
    if not is_missing(row.get(NUM_SEEDS)):
        lines += [
            f"{html.escape(name)} under {row[NUM_SEEDS]} further seeds: {spread(row, name)}"
            for name in objectives
        ]
    if not is_missing(row.get(FRONT_PROBABILITY)):
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


def beside(values: Mapping[Any, Any], baseline: Mapping[str, float], table: FrontTable) -> str:
    """A point's objectives against the baseline's: a share of what is maximised, times smaller or larger
    of what is minimised; empty where the baseline has a value that nothing can be compared with.
    """
    told = []
    for name, direction in table.objectives.items():
        value, other = float(values[name]), baseline.get(name, 0.0)
        if value <= 0 or other <= 0:
            return ""
        if direction == "max":
            told.append(f"{value / other:.1%}")
        elif value == other:
            told.append(f"the same {name}")
        else:
            ratio, word = (other / value, "smaller") if value <= other else (value / other, "larger")
            told.append(f"{ratio:.3g}x {word}")
    return ", ".join(told)


def has_source(row: dict[Any, Any]) -> bool:
    """Whether the point is an imported one."""
    return not is_missing(row.get("source")) and row["source"] != ""


def _from(row: dict[Any, Any]) -> str:
    """Where an imported point is from; empty for one of the sweep's own."""
    return f" from {row['source']}" if has_source(row) else ""


def spread(row: dict[Any, Any], name: str) -> str:
    """Mean and deviation under further seeds; the mean alone where one seed has none."""
    mean, deviation = row[f"{name}_mean"], row[f"{name}_std"]
    return number(mean) if is_missing(deviation) else f"{number(mean)} ± {deviation:.2g}"
