"""Correlation maps of a training at a few of its epochs, stage by stage (paper, Fig. 3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go

from dashboards.feature_blocks import feature_blocks
from dashboards.figures.correlation_map import colour_bar, hundredths
from dashboards.figures.style import DIVERGING, new_figure

_STAGES = {"encoder": "encoder", "unnormalized": "before L2", "embedding": "embedding"}
"""What a stage is called on a page, in the order of the rows."""
_MAX_DRAWN = 128


class SmallMap(NamedTuple):
    """One map.

    Attributes:
        stage: encoder, unnormalized or embedding.
        epoch: of the main phase.
        hundredths: (place, place) int8, 100 r of every n-th feature in its own dendrogram's order.
        rms: root mean square of all its correlations between different features.
        modularity: of its best blocks.
    """

    stage: str
    epoch: int
    hundredths: np.ndarray
    rms: float
    modularity: float


class CorrelationEpochsInfo(NamedTuple):
    """What is drawn.

    Attributes:
        epochs: one a column.
        stages: one a row.
        maps: of those that there are.
        every: each so many-th feature is drawn, at most.
    """

    epochs: list[int]
    stages: list[str]
    maps: list[SmallMap]
    every: int


def info(traces: Mapping[int, Mapping[str, np.ndarray]]) -> CorrelationEpochsInfo:
    """Chooses the first, the middle and the last epoch.

    Args:
        traces: by epoch the correlation matrix of each stage; at least one.
    """
    known = sorted(traces)
    epochs = sorted({known[0], known[len(known) // 2], known[-1]})
    stages = [stage for stage in _STAGES if any(stage in traces[epoch] for epoch in epochs)]
    shown = [(e, s, traces[e][s]) for s in stages for e in epochs if s in traces[e]]
    every = max(_every(matrix) for _, _, matrix in shown)
    return CorrelationEpochsInfo(epochs, stages, [_small(s, e, m) for e, s, m in shown], every)


def _small(stage: str, epoch: int, matrix: np.ndarray) -> SmallMap:
    blocks = feature_blocks(matrix)
    drawn = hundredths(matrix, blocks.order[:: _every(matrix)])
    return SmallMap(stage, epoch, drawn, blocks.rms, blocks.modularity)


def _every(matrix: np.ndarray) -> int:
    return -(-len(matrix) // _MAX_DRAWN)


def plot(drawn: CorrelationEpochsInfo) -> go.Figure:
    """Rows of stages, columns of epochs, one scale of colours."""
    figure = new_figure()
    num_rows, num_columns = len(drawn.stages), len(drawn.epochs)
    width, height = 1 / num_columns, 1 / num_rows
    for small in drawn.maps:
        row, column = drawn.stages.index(small.stage), drawn.epochs.index(small.epoch)
        number = row * num_columns + column + 1
        axis = "" if number == 1 else str(number)
        figure.add_heatmap(
            z=small.hundredths,
            xaxis=f"x{axis}",
            yaxis=f"y{axis}",
            coloraxis="coloraxis",
            hovertemplate="r = %{z}/100<extra></extra>",
        )
        left, top = column * width, 1 - row * height
        bare = {"visible": False, "fixedrange": True, "constrain": "domain"}
        figure.update_layout(
            {
                f"xaxis{axis}": {
                    **bare,
                    "domain": [left + 0.01, left + width - 0.01],
                    "anchor": f"y{axis}",
                },
                f"yaxis{axis}": {
                    **bare,
                    "domain": [top - height + 0.01, top - 0.075],
                    "anchor": f"x{axis}",
                    "scaleanchor": f"x{axis}",
                    "autorange": "reversed",
                },
            }
        )
        figure.add_annotation(
            text=f"{_STAGES[small.stage]}, epoch {small.epoch}<br>"
            f"RMS {small.rms:.2f}, Q {small.modularity:.2f}",
            x=left + width / 2,
            y=top - 0.075,
            xref="paper",
            yref="paper",
            xanchor="center",
            yanchor="bottom",
            showarrow=False,
            font={"size": 10},
        )
    figure.update_layout(
        margin={"l": 8, "r": 8, "t": 8, "b": 56},
        coloraxis={
            "cmin": -100,
            "cmax": 100,
            "colorscale": DIVERGING,
            "colorbar": {**colour_bar(), "y": -0.01},
        },
    )
    return figure
