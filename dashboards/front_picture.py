"""The picture of a front."""

from __future__ import annotations

import io

from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from dashboards.front_info import CONFIRMED, FrontInfo, colour, log_ticks, step


def to_png(drawn: FrontInfo) -> bytes:
    """The same picture for a README or a chat."""
    figure = Figure(figsize=(7.2, 4.2), dpi=144, layout="constrained")
    axes = figure.subplots()
    for kind, points in drawn.points.groupby("kind", sort=True):
        of_kind = colour(str(kind))
        axes.scatter(
            points[drawn.x.metric], points[drawn.y.metric], label=str(kind),
            s=16, linewidths=[0.0 if holds else 0.8 for holds in points["is_feasible"]],
            facecolors=[to_rgba(of_kind, 0.3 * holds) for holds in points["is_feasible"]],
            edgecolors=to_rgba(of_kind, 0.3),
        )  # fmt: skip
    front = drawn.front
    where = "pre" if step(drawn) == "vh" else "post"
    if drawn.has_line:
        axes.step(front[drawn.x.metric], front[drawn.y.metric], where=where, color="#222222", lw=1.2)
    axes.scatter(
        front[drawn.x.metric], front[drawn.y.metric],
        s=52, zorder=3, color=[colour(str(kind)) for kind in front["kind"]],
        edgecolors="#222222", linewidths=1.2,
    )  # fmt: skip
    if len(drawn.confirmed):
        confirmed = drawn.confirmed
        axes.errorbar(
            confirmed["x"], confirmed["y"], xerr=confirmed["x_std"], yerr=confirmed["y_std"],
            fmt="x", ms=5, color="#555555", elinewidth=0.8, capsize=2, zorder=2, label=CONFIRMED,
        )  # fmt: skip
    axes.plot([], [], "o-", color="#222222", lw=1.2, markerfacecolor="white", label="front")
    if len(drawn.picked):
        axes.scatter(
            drawn.picked[drawn.x.metric], drawn.picked[drawn.y.metric],
            s=150, zorder=4, marker="*", color=[colour(str(kind)) for kind in drawn.picked["kind"]],
            edgecolors="#222222", linewidths=1.0, label="picked",
        )  # fmt: skip
    if drawn.x.logarithmic:
        axes.set_xscale("log")
        ticks = log_ticks(drawn)
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    axes.set_xlabel(drawn.x.label)
    axes.set_ylabel(drawn.y.label)
    axes.set_title(drawn.title, loc="left", fontsize=10, parse_math=False)
    axes.grid(alpha=0.25)
    if len(drawn.points):
        axes.legend(loc="lower right", fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
