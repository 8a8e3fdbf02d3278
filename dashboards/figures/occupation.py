"""How many trials were trained at the same time, over the sweep's time."""

from __future__ import annotations

from typing import NamedTuple

import plotly.graph_objects as go

from dashboards.figures.style import SERIES, new_figure
from dashboards.sweep_story import SweepStory

_NUM_TICKS = 5


class OccupationInfo(NamedTuple):
    """What is drawn.

    Attributes:
        minutes: since the sweep began, where the number changes.
        running: trials that were being trained from there on.
        slot_minutes: trials times minutes, together.
        most: trials at the same time.
        busy_share: of the time of `most` slots, from the first start to the last end, how much was used;
            1 where that is no time at all.
    """

    minutes: list[float]
    running: list[int]
    slot_minutes: float
    most: int
    busy_share: float


def info(story: SweepStory) -> OccupationInfo | None:
    """None before the first trial was taken up."""
    begun = story.record.started
    if not story.spans or begun is None:
        return None
    spans = [(span.start, story.latest if span.end is None else span.end) for span in story.spans]
    changes: dict[float, int] = {}
    for start, end in spans:
        changes[start] = changes.get(start, 0) + 1
        changes[end] = changes.get(end, 0) - 1
    minutes, running, now = [], [], 0
    for time in sorted(changes):
        now += changes[time]
        minutes.append((time - begun) / 60)
        running.append(now)
    slot_minutes = sum(end - start for start, end in spans) / 60
    most, whole = max(running), minutes[-1] - minutes[0]
    share = slot_minutes / (most * whole) if most and whole else 1.0
    return OccupationInfo(minutes, running, slot_minutes, most, share)


def plot(drawn: OccupationInfo) -> go.Figure:
    """A step line; a sweep that was resumed shows its pauses."""
    figure = new_figure()
    figure.add_scatter(
        x=drawn.minutes,
        y=drawn.running,
        mode="lines",
        fill="tozeroy",
        line={"shape": "hv", "color": SERIES[0], "width": 1.5},
        hovertemplate="%{y} trials from minute %{x:.1f}<extra></extra>",
        showlegend=False,
    )
    figure.update_xaxes(title_text="minutes since the sweep began")
    whole = -(-drawn.most // _NUM_TICKS) or 1
    figure.update_yaxes(title_text="trials in training", rangemode="tozero", dtick=whole)
    return figure
