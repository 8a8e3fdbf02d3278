"""Effective dimensions of each stage over the epochs of a training (paper, Fig. 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import plotly.graph_objects as go

from dashboards.figures.dimension_axis import dimension_axis
from dashboards.figures.stages import STAGE_COLOURS, STAGE_NAMES
from dashboards.figures.style import INK, new_figure
from orchestrator.trials import Point

_LOOKS = {
    "encoder_d_eff": ("encoder", "solid", "square"),
    "unnormalized_d_eff": ("unnormalized", "dash", "diamond"),
    "d_eff": ("embedding", "solid", "circle"),
}
"""By metric the stage that it is of, its line and its markers."""


class DEffEpochsInfo(NamedTuple):
    """What is drawn.

    Attributes:
        epochs: validated ones.
        values: by metric the components that hold 99 % of the variance, at each epoch.
        epoch: the one that the page is about.
    """

    epochs: list[int]
    values: dict[str, list[float]]
    epoch: int


def info(points: Sequence[Point], epoch: int) -> DEffEpochsInfo:
    """Of the points of one trial, in order."""
    names = [name for name in _LOOKS if all(name in point.metrics for point in points)]
    values = {name: [point.metrics[name] for point in points] for name in names}
    return DEffEpochsInfo([point.epoch for point in points], values, epoch)


def plot(drawn: DEffEpochsInfo) -> go.Figure:
    """Three curves on a logarithmic axis; where stages are alike their curves lie on one another."""
    figure = new_figure()
    for metric, values in drawn.values.items():
        stage, dash, symbol = _LOOKS[metric]
        figure.add_scatter(
            x=drawn.epochs,
            y=values,
            mode="lines+markers" if len(drawn.epochs) <= 60 else "lines",
            name=STAGE_NAMES[stage],
            line={"color": STAGE_COLOURS[stage], "dash": dash},
            marker={"size": 6, "symbol": symbol},
            hovertemplate="%{y} dimensions at epoch %{x}",
        )
    figure.add_vline(
        x=drawn.epoch,
        line={"color": INK, "width": 1, "dash": "dot"},
        annotation={"text": f"epoch {drawn.epoch}", "font": {"size": 11}},
        annotation_position="top left",
    )
    figure.update_xaxes(title_text="epoch")
    figure.update_yaxes(dimension_axis("effective dimensions (99 %)"))
    return figure
