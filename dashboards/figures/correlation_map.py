"""The clustermap of a correlation matrix with its dendrogram (paper, Figs. 2 and 7)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go
from scipy.cluster import hierarchy

from dashboards.feature_blocks import FeatureBlocks, feature_blocks
from dashboards.figures.style import DIVERGING, INK, SOFT, new_figure

_MAX_DRAWN = 800
"""More features than a screen has pixels for are thinned out to every n-th of the dendrogram's order."""
_DENDROGRAM_SHARE = 0.17
_OUTLINE = "#111111"
"""Dark on every background, since the map is light on every one."""


class CorrelationMapInfo(NamedTuple):
    """What is drawn.

    Attributes:
        hundredths: (place, place) int8, 100 r of the features in the dendrogram's order.
        places: (place,), of the rows and columns of `hundredths` in that order.
        features: (place,), the number of the feature, from 0, that stands there.
        tree_x: places of the dendrogram's line; NaN between its brackets.
        tree_y: distances 1 - |r| of the same.
        outline_x: places of the blocks' outlines, a square each; NaN between them.
        outline_y: the same along the other axis.
        num_features: all of them.
        blocks: the clustering.
    """

    hundredths: np.ndarray
    places: np.ndarray
    features: np.ndarray
    tree_x: np.ndarray
    tree_y: np.ndarray
    outline_x: np.ndarray
    outline_y: np.ndarray
    num_features: int
    blocks: FeatureBlocks


def info(correlation: np.ndarray) -> CorrelationMapInfo:
    """Clusters a correlation matrix, (feature, feature)."""
    blocks = feature_blocks(correlation)
    dim = len(correlation)
    places = np.arange(0, dim, -(-dim // _MAX_DRAWN))
    features = blocks.order[places]
    outline_x, outline_y = _outlines(blocks)
    return CorrelationMapInfo(
        hundredths(correlation, features),
        places,
        features,
        *_tree(blocks),
        outline_x,
        outline_y,
        dim,
        blocks,
    )


def hundredths(correlation: np.ndarray, features: np.ndarray) -> np.ndarray:
    """(feature, feature) int8, 100 r of these features, in their order."""
    some = np.asarray(correlation, dtype=np.float64)[np.ix_(features, features)]
    return np.rint(100 * some.clip(-1, 1)).astype(np.int8)


def _tree(blocks: FeatureBlocks) -> tuple[np.ndarray, np.ndarray]:
    if not len(blocks.merges):
        return np.empty(0), np.empty(0)
    drawn = hierarchy.dendrogram(blocks.merges, no_plot=True)
    # scipy puts the leaves at 5, 15, 25, ...
    return _joined((np.array(drawn["icoord"]) - 5) / 10), _joined(np.array(drawn["dcoord"]))


def _outlines(blocks: FeatureBlocks) -> tuple[np.ndarray, np.ndarray]:
    ends = blocks.sizes().cumsum() - 0.5
    starts = np.concatenate([[-0.5], ends[:-1]])
    x = np.stack([starts, ends, ends, starts, starts], axis=1)
    return _joined(x), _joined(np.stack([starts, starts, ends, ends, starts], axis=1))


def _joined(lines: np.ndarray) -> np.ndarray:
    """(line, place) as one row with a NaN after each line."""
    ended = np.concatenate([lines, np.full((len(lines), 1), np.nan)], axis=1)
    return ended.ravel().astype(np.float32)


def plot(drawn: CorrelationMapInfo) -> go.Figure:
    """The heatmap with the blocks' outlines, and the dendrogram above it."""
    figure = new_figure()
    figure.add_scatter(
        x=drawn.tree_x,
        y=drawn.tree_y,
        yaxis="y2",
        mode="lines",
        line={"color": SOFT, "width": 1},
        hoverinfo="skip",
    )
    figure.add_heatmap(
        z=drawn.hundredths,
        x=drawn.places,
        y=drawn.places,
        zmin=-100,
        zmax=100,
        colorscale=DIVERGING,
        colorbar=colour_bar(),
        hovertemplate="feature %{x} and feature %{y}<br>r = %{z}/100<extra></extra>",
    )
    figure.add_scatter(
        x=drawn.outline_x,
        y=drawn.outline_y,
        mode="lines",
        line={"color": _OUTLINE, "width": 1},
        hoverinfo="skip",
    )
    names = {"tickmode": "array", "tickvals": drawn.places, "ticktext": [str(f) for f in drawn.features]}
    bare = {"showticklabels": False, "ticks": "", "showgrid": False, "zeroline": False}
    span = [-0.5, drawn.num_features - 0.5]
    title = {"text": f"{drawn.num_features} features, in the dendrogram's order"}
    figure.update_layout(
        showlegend=False,
        margin={"l": 46, "r": 14, "t": 10, "b": 30},
        xaxis={**names, **bare, "range": span, "title": title, "constrain": "domain"},
        yaxis={
            **names,
            **bare,
            "range": span[::-1],
            "domain": [0, 1 - _DENDROGRAM_SHARE],
            "scaleanchor": "x",
            "constrain": "domain",
            "constraintoward": "top",
        },
        yaxis2={
            "domain": [1 - _DENDROGRAM_SHARE + 0.01, 1],
            "title": {"text": "1 - |r|", "font": {"size": 11}},
            "range": [0, 1.02],
            "tickvals": [0, 0.5, 1],
            "tickfont": {"size": 10},
            "showgrid": False,
            "zeroline": False,
            "fixedrange": True,
        },
    )
    return figure


def colour_bar() -> dict[str, object]:
    """For correlations in hundredths, below the figure."""
    return {
        "orientation": "h",
        "y": -0.09,
        "yanchor": "top",
        "thickness": 10,
        "len": 0.7,
        "lenmode": "fraction",
        "outlinewidth": 0,
        "tickvals": [-100, -50, 0, 50, 100],
        "ticktext": ["-1", "-0.5", "0", "0.5", "1"],
        "title": {"text": "Pearson correlation r", "side": "top", "font": {"size": 11, "color": INK}},
    }
