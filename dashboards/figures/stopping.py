"""How far each trial was trained, and what ended it."""

from __future__ import annotations

import html
from typing import NamedTuple

import plotly.graph_objects as go

from dashboards.figures.axes import whole_steps
from dashboards.figures.style import SOFT, STATUS_COLOURS, new_figure
from dashboards.sweep_story import SweepStory

_ORDER = ("completed", "stopped", "interrupted", "failed", "running", "pending")


class Ending(NamedTuple):
    """The trials of one status.

    Attributes:
        status: such as stopped.
        trials: their names.
        numbers: in the order of proposal, from 0.
        epochs: of each one's last report; 0 before the first.
        reasons: why each ended; empty where it completed.
    """

    status: str
    trials: list[str]
    numbers: list[int]
    epochs: list[int]
    reasons: list[str]


class StoppingInfo(NamedTuple):
    """What is drawn; `max_epochs` is what a trial that nothing ends reaches."""

    endings: list[Ending]
    max_epochs: int


def info(story: SweepStory) -> StoppingInfo | None:
    """Of the trials of the search; None before the first."""
    trials = list(story.record.trials.values())
    if not trials:
        return None
    groups = {status: [trial for trial in trials if trial.status == status] for status in _ORDER}
    endings = [
        Ending(
            status,
            [trial.name for trial in group],
            [trial.number for trial in group],
            [trial.last_epoch for trial in group],
            [trial.reason for trial in group],
        )
        for status, group in groups.items()
        if group
    ]
    most = max(int(trial.config["epochs"]) for trial in trials)
    return StoppingInfo(endings, most)


def plot(drawn: StoppingInfo) -> go.Figure:
    """Last epoch over the number of the trial, in the colour of what ended it."""
    figure = new_figure()
    for ending in drawn.endings:
        figure.add_scatter(
            x=ending.numbers,
            y=ending.epochs,
            mode="markers",
            name=f"{ending.status} ({len(ending.trials)})",
            marker={"color": STATUS_COLOURS[ending.status], "size": 7, "opacity": 0.8},
            customdata=[[trial, None] for trial in ending.trials],
            hovertext=[
                "<br>".join([f"<b>{html.escape(trial)}</b>, {epoch} epochs", html.escape(reason)])
                for trial, epoch, reason in zip(
                    ending.trials, ending.epochs, ending.reasons, strict=True
                )
            ],
            hoverinfo="text",
            cliponaxis=False,
        )
    figure.add_hline(y=drawn.max_epochs, line={"dash": "dot", "width": 1, "color": SOFT})
    num_trials = sum(len(ending.trials) for ending in drawn.endings)
    figure.update_xaxes(title_text="trial, in the order of proposal", dtick=whole_steps(num_trials))
    figure.update_yaxes(
        title_text="epochs trained", rangemode="tozero", dtick=whole_steps(drawn.max_epochs)
    )
    figure.update_layout(hovermode="closest")
    return figure
