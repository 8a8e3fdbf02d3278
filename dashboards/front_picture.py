"""The picture of a front, for a README or a chat."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from dashboards.figures.front import FrontInfo
from dashboards.figures.front_region import Region
from dashboards.figures.front_seeds import CONFIRMED
from dashboards.figures.style import head_colour

_INK = "#222222"
_SYMBOLS = {"diamond-open": "D", "cross-open": "P"}


def to_png(drawn: FrontInfo) -> bytes:
    """The same as the figure of the page, in black on white."""
    figure = Figure(figsize=(7.2, 4.2), dpi=144, layout="constrained")
    axes = figure.subplots()
    _add_points(axes, drawn)
    _add_front(axes, drawn)
    for mark in drawn.marks:
        axes.scatter(
            [mark.x], [mark.y], s=70, zorder=3, marker=_SYMBOLS[mark.symbol], facecolors="none",
            edgecolors=head_colour(mark.kind), linewidths=1.6, label=mark.name,
        )  # fmt: skip
    if drawn.x.logarithmic:
        axes.set_xscale("log")
        _set_ticks(axes.xaxis, drawn.ticks)
    if drawn.y.logarithmic:
        axes.set_yscale("log")
        _set_ticks(axes.yaxis, drawn.y_ticks)
    if drawn.region is not None:
        _add_region(axes, drawn.region)
    axes.set_xlabel(drawn.x.label, parse_math=False)
    axes.set_ylabel(drawn.y.label, parse_math=False)
    axes.set_title(drawn.title, loc="left", fontsize=10, parse_math=False)
    axes.grid(alpha=0.25)
    if len(drawn.points):
        for text in axes.legend(loc="lower right", fontsize=9).get_texts():
            text.set_parse_math(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _add_points(axes: Axes, drawn: FrontInfo) -> None:
    for kind, points in drawn.points.groupby("kind", sort=True):
        of_kind = head_colour(str(kind))
        axes.scatter(
            points[drawn.x.metric], points[drawn.y.metric], label=str(kind),
            s=16, linewidths=[0.0 if holds else 0.8 for holds in points["is_feasible"]],
            facecolors=[to_rgba(of_kind, 0.3 * holds) for holds in points["is_feasible"]],
            edgecolors=to_rgba(of_kind, 0.3),
        )  # fmt: skip


def _add_front(axes: Axes, drawn: FrontInfo) -> None:
    """The front, what further seeds say of it, and the point that is picked."""
    front = drawn.front
    where = "pre" if drawn.steps == "vh" else "post"
    if drawn.has_line:
        axes.step(front[drawn.x.metric], front[drawn.y.metric], where=where, color=_INK, lw=1.2)
    axes.scatter(
        front[drawn.x.metric], front[drawn.y.metric],
        s=52, zorder=3, color=[head_colour(str(kind)) for kind in front["kind"]],
        edgecolors=_INK, linewidths=1.2,
    )  # fmt: skip
    if len(drawn.confirmed):
        confirmed = drawn.confirmed
        axes.errorbar(
            confirmed["x"], confirmed["y"], xerr=confirmed["x_std"], yerr=confirmed["y_std"],
            fmt="x", ms=5, color="#555555", elinewidth=0.8, capsize=2, zorder=2, label=CONFIRMED,
        )  # fmt: skip
    axes.plot([], [], "o-", color=_INK, lw=1.2, markerfacecolor="white", label="front")
    if len(drawn.picked):
        axes.scatter(
            drawn.picked[drawn.x.metric], drawn.picked[drawn.y.metric],
            s=150, zorder=4, marker="*", color=[head_colour(str(kind)) for kind in drawn.picked["kind"]],
            edgecolors=_INK, linewidths=1.0, label="picked",
        )  # fmt: skip


def _set_ticks(axis: XAxis | YAxis, ticks: Sequence[float]) -> None:
    """Those within what is shown: others would widen it."""
    low, high = sorted(axis.get_view_interval())
    shown = [tick for tick in ticks if low <= tick <= high]
    axis.set_ticks(shown, [f"{tick:g}" for tick in shown])
    axis.set_ticks([], minor=True)


def _add_region(axes: Axes, region: Region) -> None:
    """Shades what breaks the constraints, as far as the points reach."""
    limits = axes.get_xlim(), axes.get_ylim()
    axes.contourf(
        region.x, region.y, region.excess,
        levels=[0.0, math.inf], colors=["#808080"], alpha=0.16, zorder=0,
    )  # fmt: skip
    axes.set_xlim(limits[0])
    axes.set_ylim(limits[1])
