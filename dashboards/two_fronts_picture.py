"""The picture of two fronts, for a README or a chat."""

from __future__ import annotations

import io

from matplotlib.figure import Figure

from dashboards.figures.two_fronts import COLOURS, TwoFrontsInfo

_MARKERS = ("o", "D")


def to_png(drawn: TwoFrontsInfo) -> bytes:
    """The same as the figure of the page, on white."""
    figure = Figure(figsize=(7.2, 4.2), dpi=144, layout="constrained")
    axes = figure.subplots()
    where = "pre" if drawn.steps == "vh" else "post"
    for side, colour, marker in zip(drawn.sides, COLOURS, _MARKERS, strict=True):
        axes.scatter(
            side.others["x"], side.others["y"], s=8, alpha=0.25, color=colour, marker=marker, lw=0
        )
        style = {"color": colour, "lw": 1.8, "marker": marker, "ms": 6.5, "label": side.label}
        if drawn.has_line:
            axes.step(side.front["x"], side.front["y"], where=where, **style)
        else:
            axes.plot(side.front["x"], side.front["y"], **{**style, "lw": 0.0})
    if drawn.x.logarithmic:
        axes.set_xscale("log")
        axes.set_xticks(drawn.ticks, [f"{tick:g}" for tick in drawn.ticks])
        axes.minorticks_off()
    axes.set_xlabel(drawn.x.label)
    axes.set_ylabel(drawn.y.label)
    axes.grid(alpha=0.25)
    legend = axes.legend(loc="lower right", fontsize=9)
    for text in legend.get_texts():
        text.set_parse_math(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
