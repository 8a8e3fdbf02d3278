"""The principal variances of each stage: their cumulative share above, each one's share below."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboards.figures.dimension_axis import dimension_axis
from dashboards.figures.stages import STAGE_COLOURS, STAGE_NAMES
from dashboards.figures.style import INK, SOFT, new_figure
from trainables.reports import VARIANCE_SHARES

_DASHES = {"encoder": "dash", "unnormalized": "dot", "embedding": "solid", "untouched": "dashdot"}
_SMALLEST_SHARE = 1e-9
"""What is below is rounding of the float32 vectors."""


class StageSpectrum(NamedTuple):
    """The spectrum of one stage.

    Attributes:
        stage: of STAGE_NAMES.
        shares: (component,), each component's share of the variance, falling; NaN where it is rounding.
        cumulative: (component,), the share of the first components together.
        d_eff: components that hold 99 % of the variance.
    """

    stage: str
    shares: np.ndarray
    cumulative: np.ndarray
    d_eff: int


def info(table: pd.DataFrame) -> list[StageSpectrum]:
    """Of the columns stage, component, variance and cumulative_share."""
    parts = [(stage, table.loc[table["stage"] == stage]) for stage in STAGE_NAMES]
    return [_stage(stage, part) for stage, part in parts if len(part)]


def _stage(stage: str, part: pd.DataFrame) -> StageSpectrum:
    variances = part["variance"].to_numpy(dtype=np.float64)
    cumulative = part["cumulative_share"].to_numpy(dtype=np.float64)
    shares = variances / max(variances.sum(), np.finfo(np.float64).tiny)
    held = int((cumulative < VARIANCE_SHARES["d_eff"]).sum())
    # As `trainables.metrics.Spectrum.num_components`: 1 where nothing varies.
    d_eff = 1 if variances.sum() <= 0 else min(held, len(part) - 1) + 1
    return StageSpectrum(stage, np.where(shares > _SMALLEST_SHARE, shares, np.nan), cumulative, d_eff)


def plot(drawn: list[StageSpectrum]) -> go.Figure:
    """Both against the number of components, logarithmic; a marker at each d_eff."""
    figure = new_figure()
    for part in drawn:
        colour, numbers = STAGE_COLOURS[part.stage], np.arange(1, len(part.shares) + 1)
        line = {"color": colour, "dash": _DASHES[part.stage]}
        shared = {"mode": "lines", "line": line, "legendgroup": part.stage, "x": numbers}
        figure.add_scatter(
            y=100 * part.cumulative,
            name=f"{STAGE_NAMES[part.stage]}, d_eff {part.d_eff}",
            hovertemplate="%{x} components: %{y:.3f} %<extra></extra>",
            **shared,
        )
        figure.add_scatter(
            y=100 * part.shares,
            yaxis="y2",
            showlegend=False,
            hovertemplate="component %{x}: %{y:.3g} %<extra></extra>",
            **shared,
        )
        figure.add_scatter(
            x=[part.d_eff],
            y=[100 * part.cumulative[part.d_eff - 1]],
            mode="markers",
            marker={"size": 10, "color": colour, "line": {"color": INK, "width": 1.5}},
            legendgroup=part.stage,
            showlegend=False,
            hovertemplate="d_eff %{x}<extra></extra>",
        )
    figure.add_hline(y=99, line={"color": SOFT, "width": 1, "dash": "dot"})
    figure.update_layout(
        xaxis={**dimension_axis("principal components"), "anchor": "y2"},
        yaxis={"title": {"text": "variance of the first k, %"}, "domain": [0.53, 1]},
        yaxis2={
            "title": {"text": "variance of the k-th, %"},
            "type": "log",
            "domain": [0, 0.45],
            "exponentformat": "power",
            "dtick": 2,
            "tickfont": {"size": 10},
        },
    )
    return figure
