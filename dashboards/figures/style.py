"""What all figures have in common: colours that colour-blind readers tell apart, and empty figures.

Text, grid and background are not set here: the page gives them, light or dark as its reader is.
"""

from __future__ import annotations

import plotly.graph_objects as go

HEAD_COLOURS = {"none": "#8a8f98", "mlp": "#e08214", "monotonic": "#2b83c6"}
STATUS_COLOURS = {
    "completed": "#009e73",
    "stopped": "#e69f00",
    "failed": "#d55e00",
    "interrupted": "#8a8f98",
    "running": "#56b4e9",
    "pending": "#b8b8b8",
    "imported": "#cc79a7",
}
SERIES = ("#2b83c6", "#e08214", "#009e73", "#cc79a7", "#d55e00", "#8a8f98")
"""For curves that are no head kinds, in this order; Okabe and Ito's, toned for both backgrounds."""
DIVERGING = [[0.0, "#2166ac"], [0.5, "#f7f7f7"], [1.0, "#b2182b"]]
"""For correlations from -1 to 1."""
INK = "#010101"
"""Stands for the colour of text: the page puts a light one in its place on a dark background."""
SOFT = "#020202"
"""The same for a colour between text and background."""
_OTHER_COLOUR = "#6d6d6d"


def head_colour(kind: str) -> str:
    """Of a head kind's points and curves."""
    return HEAD_COLOURS.get(kind, _OTHER_COLOUR)


def new_figure() -> go.Figure:
    """An empty figure without a theme; readable from 400 px of width."""
    return go.Figure(
        layout={
            "template": "none",
            "margin": {"l": 58, "r": 14, "t": 28, "b": 48},
            "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0.0, "xanchor": "left"},
            "hoverlabel": {"align": "left", "font": {"size": 11}},
            "uirevision": "keep",
        }
    )
