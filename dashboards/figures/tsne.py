"""The test embeddings on a plane, by t-SNE (paper, Fig. 5)."""

from __future__ import annotations

import html
from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from scipy.spatial import KDTree

from dashboards.figures.style import INK, SERIES, new_figure

_SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up")
"""With the colours 30 looks; further labels repeat them, and hovering tells which it is."""
_MAX_NAMED = 20
"""More names than that lie on top of each other."""


class LabelName(NamedTuple):
    """A label in the midst of its items."""

    label: str
    x: float
    y: float


class TsneInfo(NamedTuple):
    """What is drawn.

    Attributes:
        x: (item,) float32, without a unit, as `y`.
        colours: (item,), of each item's label, one of SERIES.
        symbols: (item,), of _SYMBOLS.
        labels: (item,), as text.
        names: of each label its median place; empty where there are many.
        num_labels: different ones.
        neighbour_share: of the items whose nearest on the plane has their label; 0 for a single item.
    """

    x: np.ndarray
    y: np.ndarray
    colours: list[str]
    symbols: list[str]
    labels: list[str]
    names: list[LabelName]
    num_labels: int
    neighbour_share: float


def info(table: pd.DataFrame) -> TsneInfo:
    """Of the columns x, y and label; at least one row."""
    places = table[["x", "y"]].to_numpy(dtype=np.float32)
    known, codes = np.unique(table["label"].to_numpy(), return_inverse=True)
    return TsneInfo(
        x=places[:, 0],
        y=places[:, 1],
        colours=[SERIES[code % len(SERIES)] for code in codes],
        symbols=[_SYMBOLS[code // len(SERIES) % len(_SYMBOLS)] for code in codes],
        labels=[str(label) for label in table["label"]],
        names=_names(places, known, codes) if len(known) <= _MAX_NAMED else [],
        num_labels=len(known),
        neighbour_share=_neighbour_share(places, codes),
    )


def _names(places: np.ndarray, known: np.ndarray, codes: np.ndarray) -> list[LabelName]:
    medians = [np.median(places[codes == code], axis=0) for code in range(len(known))]
    return [
        LabelName(str(label), float(x), float(y)) for label, (x, y) in zip(known, medians, strict=True)
    ]


def _neighbour_share(places: np.ndarray, codes: np.ndarray) -> float:
    if len(places) < 2:
        return 0.0
    nearest = np.asarray(KDTree(places).query(places, k=2)[1])
    # Of equal places either may come first, and one of the two is the item itself.
    other = np.where(nearest[:, 0] == np.arange(len(places)), nearest[:, 1], nearest[:, 0])
    return float((codes[other] == codes).mean())


def plot(drawn: TsneInfo) -> go.Figure:
    """The items; where they are few, the labels in their midst."""
    figure = new_figure()
    figure.add_scatter(
        x=drawn.x,
        y=drawn.y,
        mode="markers",
        marker={
            "size": 5 if len(drawn.x) > 1000 else 6,
            "color": drawn.colours,
            "symbol": drawn.symbols,
            "opacity": 0.75,
        },
        text=[html.escape(label) for label in drawn.labels],
        hovertemplate="label %{text}<extra></extra>",
    )
    for name in drawn.names:
        figure.add_annotation(
            x=name.x,
            y=name.y,
            text=f"<b>{html.escape(name.label)}</b>",
            showarrow=False,
            font={"size": 15, "color": INK},
        )
    bare = {"showticklabels": False, "ticks": "", "showgrid": False, "zeroline": False}
    figure.update_layout(
        showlegend=False,
        margin={"l": 28, "r": 8, "t": 8, "b": 28},
        xaxis={**bare, "title": {"text": "t-SNE 1"}},
        yaxis={**bare, "title": {"text": "t-SNE 2"}, "scaleanchor": "x"},
    )
    return figure
