"""Recall@k against the number of neighbours, beside the baseline's (paper, Fig. 6)."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import NamedTuple

import plotly.graph_objects as go

from dashboards.figures.style import head_colour, new_figure
from trainables.reports import NUM_RECALLS

_PREFIXES = {"test": "test_", "validation": ""}
"""What the names of metrics begin with, by split; compared is on the first that all have."""


class RecallCurve(NamedTuple):
    """The Recall of one point.

    Attributes:
        name: of the point, for people.
        kind: of its head.
        test: metrics of its final evaluation; empty where it had none.
        validation: those of its validation.
    """

    name: str
    kind: str
    test: Mapping[str, float]
    validation: Mapping[str, float]


class RecallCurveInfo(NamedTuple):
    """What is drawn.

    Attributes:
        split: test or validation, of all curves.
        ks: numbers of neighbours.
        curves: by name the head's kind and the recall in percent at each of `ks`.
        crossover: the smallest k from which on the point's recall is above the baseline's; None where
            it is not above it at the last one, or there is no baseline.
    """

    split: str
    ks: list[int]
    curves: dict[str, tuple[str, list[float]]]
    crossover: int | None


def info(point: RecallCurve, baseline: RecallCurve | None) -> RecallCurveInfo | None:
    """Compares like with like: on the test set where both have it, else on the validation set.

    Returns:
        None where the point has no recalls.
    """
    both = [point] if baseline is None else [point, baseline]
    for split, prefix in _PREFIXES.items():
        recalls = [_recalls(getattr(curve, split), prefix) for curve in both]
        if all(recalls):
            curves = {c.name: (c.kind, values) for c, values in zip(both, recalls, strict=True)}
            crossover = _crossover(*recalls) if len(recalls) == 2 else None
            return RecallCurveInfo(split, list(range(1, len(recalls[0]) + 1)), curves, crossover)
    return None if baseline is None else info(point, None)


def _recalls(metrics: Mapping[str, float], prefix: str) -> list[float]:
    names = [f"{prefix}recall_at_{k}" for k in range(1, NUM_RECALLS + 1)]
    return [100 * metrics[name] for name in names] if all(name in metrics for name in names) else []


def _crossover(values: list[float], others: list[float]) -> int | None:
    last_below = max(
        (k for k, (v, o) in enumerate(zip(values, others, strict=True), 1) if v <= o), default=0
    )
    return last_below + 1 if last_below < len(values) else None


def plot(drawn: RecallCurveInfo) -> go.Figure:
    """One curve a point, the baseline's dashed."""
    figure = new_figure()
    for place, (name, (kind, values)) in enumerate(drawn.curves.items()):
        figure.add_scatter(
            x=drawn.ks,
            y=values,
            mode="lines+markers",
            name=html.escape(name),
            line={"color": head_colour(kind), "dash": "dash" if place else "solid"},
            marker={"size": 6, "symbol": "square" if place else "circle"},
            hovertemplate="Recall@%{x}: %{y:.2f} %",
        )
    figure.update_xaxes(title_text="k nearest neighbours", dtick=2, tick0=1)
    figure.update_yaxes(title_text=f"Recall@k, {drawn.split} set, %")
    return figure
