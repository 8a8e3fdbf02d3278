"""Tables of fronts with as little in them as will do, and hostile names."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pandas as pd

from orchestrator.front_table import FrontTable
from trainables.reports import Direction

OBJECTIVES: dict[str, Direction] = {"knn_accuracy": "max", "d_eff": "min"}
SPEARMAN: dict[str, Direction] = {"spearman": "max", "d_eff": "min"}
HOSTILE = '</script><script>hostile()</script><img src="http://evil.example/x" onerror="hostile()">'


def row(trial: str, accuracy: float, d_eff: float, on_front: bool, **more: Any) -> dict[str, Any]:
    """A point."""
    flags = {"on_front": on_front, "is_picked": False, "is_feasible": True}
    values = {"trial": trial, "epoch": 5, **flags, "status": "completed"}
    return {**values, "knn_accuracy": accuracy, "d_eff": d_eff, "param.head.kind": "mlp", **more}


def pairs(trial: str, spearman: float, d_eff: float, on_front: bool, **more: Any) -> dict[str, Any]:
    """A point of a sweep over pairs of sentences: without an accuracy."""
    values = {**row(trial, 0.0, d_eff, on_front), "spearman": spearman, **more}
    del values["knn_accuracy"]
    return values


def confirmed(accuracy: float, d_eff: float, seeds: int | None = 2, **more: float) -> dict[str, Any]:
    """What further seeds say of a point."""
    values = {"knn_accuracy_mean": accuracy, "d_eff_mean": d_eff, "num_seeds": seeds}
    return {"knn_accuracy_std": 0.02, "d_eff_std": 1.5, "front_probability": 0.75, **values, **more}


def table(*rows: dict[str, Any], title: str = "digits", objectives: Any = OBJECTIVES) -> FrontTable:
    """A table of these points."""
    flags = ["on_front", "is_picked", "is_feasible"]
    columns = ["trial", "epoch", *flags, "status", "knn_accuracy", "d_eff"]
    points = pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)
    points = points.astype(dict.fromkeys(flags, bool))
    if "num_seeds" in points:
        points = points.astype({"num_seeds": "Int64"})  # as the table has them
    return FrontTable(title, objectives, points)


THREE = table(
    row("trial-0002", 0.95, 40.0, True, **{"param.head.kind": "none"}),
    row("trial-0000", 0.90, 10.0, True),
    row("trial-0001", 0.60, 3.0, True),
    row("trial-0003", 0.50, 30.0, False),
)
CONFIRMED = table(
    row("trial-0000", 0.95, 10.0, True, **confirmed(0.90, 11.0)),
    row("trial-0001", 0.60, 3.0, True, **confirmed(0.50, 4.0, 1, knn_accuracy_std=float("nan"))),
    row("trial-0002", 0.50, 2.0, True),
    row("trial-0003", 0.40, 30.0, False),
)


class Tags(HTMLParser):
    """The tags of HTML with their attributes, and the text of table cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
        self._in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("td", "th"):
            self._in_cell = tag == "td"
            if self._in_cell:
                self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "td":
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.cells[-1] += data

    @property
    def names(self) -> list[str]:
        return [tag for tag, _ in self.tags]
