"""How good embeddings are on their first k principal components, for every k, by each ranking."""

from __future__ import annotations

import math
from typing import NamedTuple

import pandas as pd
import plotly.graph_objects as go

from dashboards.figures.dimension_axis import dimension_axis
from dashboards.figures.style import INK, SERIES, SOFT, new_figure

_OF_IMAGES = {
    "knn_accuracy": "5-NN accuracy",
    "recall_euclidean_at_1": "Recall@1, Euclid",
    "recall_cosine_at_1": "Recall@1, cosine",
    "recall_dot_at_1": "Recall@1, dot",
}
_OF_PAIRS = {
    "spearman_euclidean": "Euclid",
    "spearman_cosine": "cosine",
    "spearman_dot": "dot",
}
_LOOKS = {
    name: (SERIES[place], dash)
    for names in (_OF_IMAGES, _OF_PAIRS)
    for place, (name, dash) in enumerate(
        zip(names, ("solid", "dash", "dot", "dashdot")[: len(names)], strict=True)
    )
}


class TruncationCurveInfo(NamedTuple):
    """What is drawn.

    Attributes:
        components: numbers of them, rising.
        curves: by column the values at each; in percent for images.
        names: what the columns are called.
        full: of the whole embedding, by the first column's measure; None where it is not known.
        d_eff: of the embedding; None where it is not known.
        label: of the values' axis.
        is_whole: whether every number of components is there.
    """

    components: list[int]
    curves: dict[str, list[float]]
    names: dict[str, str]
    full: float | None
    d_eff: int | None
    label: str
    is_whole: bool


def info(table: pd.DataFrame, full: float | None, d_eff: int | None) -> TruncationCurveInfo:
    """Of the column components and those of a task.

    Args:
        table: of `truncation_curve.parquet`, or of `truncation.parquet` where there is no other.
        full: 5-NN accuracy (fraction) or Spearman correlation of the whole embedding.
        d_eff: of the embedding.
    """
    is_of_images = "knn_accuracy" in table
    known, scale = (_OF_IMAGES, 100.0) if is_of_images else (_OF_PAIRS, 1.0)
    ordered = table.sort_values("components")
    components = [int(k) for k in ordered["components"]]
    names = {column: name for column, name in known.items() if column in ordered}
    return TruncationCurveInfo(
        components=components,
        curves={column: [scale * float(value) for value in ordered[column]] for column in names},
        names=names,
        full=None if full is None else scale * full,
        d_eff=d_eff,
        label="share of test images, %" if is_of_images else "Spearman, test pairs",
        is_whole=components == list(range(1, len(components) + 1)),
    )


def plot(drawn: TruncationCurveInfo) -> go.Figure:
    """One curve a ranking on a logarithmic axis, the whole embedding's value and d_eff as lines."""
    figure = new_figure()
    for column, values in drawn.curves.items():
        colour, dash = _LOOKS[column]
        figure.add_scatter(
            x=drawn.components,
            y=values,
            mode="lines" if drawn.is_whole and len(values) > 40 else "lines+markers",
            name=drawn.names[column],
            line={"color": colour, "dash": dash, "width": 2},
            marker={"size": 5},
            hovertemplate="%{x} components: %{y:.3~f}",
        )
    if drawn.full is not None:
        figure.add_hline(
            y=drawn.full,
            line={"color": SOFT, "width": 1, "dash": "dash"},
            annotation={"text": f"whole: {drawn.full:.4g}", "font": {"size": 11}},
            annotation_position="top left",
        )
    if drawn.d_eff is not None:
        figure.add_vline(x=drawn.d_eff, line={"color": INK, "width": 1, "dash": "dot"})
        figure.add_annotation(
            text=f"d_eff {drawn.d_eff}",
            x=math.log10(drawn.d_eff),  # annotations of a logarithmic axis, unlike its lines, want that
            y=0,
            yref="paper",
            xanchor="left",
            yanchor="bottom",
            showarrow=False,
            font={"size": 11},
        )
    figure.update_xaxes(dimension_axis("principal components kept, k"))
    figure.update_yaxes(title_text=drawn.label)
    return figure
