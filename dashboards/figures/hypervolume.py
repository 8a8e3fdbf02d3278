"""The hypervolume of the front so far over trials, epochs and time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards.figures.axes import whole_steps
from dashboards.figures.style import SERIES, new_figure
from dashboards.sweep_story import Arrival, SweepStory
from orchestrator.pareto import hypervolume_history, minimised
from orchestrator.record import SweepRecord

_AXES = ("trials ended", "epochs trained", "minutes")


class HypervolumeInfo(NamedTuple):
    """The hypervolume where it changed, and at the end.

    Attributes:
        volumes: of the feasible front, imported points included.
        trials: that had ended by then.
        epochs: of the main phase that all trials of the search had been trained together.
        minutes: since the sweep began, pauses between two drivers included.
        reference: the reference point's values by objective, in their own directions.
    """

    volumes: list[float]
    trials: list[int]
    epochs: list[int]
    minutes: list[float]
    reference: dict[str, float]


def info(story: SweepStory) -> HypervolumeInfo | None:
    """None while the reference point or the constraints are not known, or nothing has arrived."""
    record = story.record
    arrivals = [arrival for arrival in story.arrivals if arrival.trial in record.trials]
    if not record.front.has_hypervolume or record.front.reference is None or not arrivals:
        return None
    volumes = _volumes(arrivals, record, record.front.reference)
    trials, epochs = _progress(arrivals, record)
    started = story.latest if record.started is None else record.started
    minutes = [(arrival.time - started) / 60 for arrival in arrivals]
    last_end = max((t.ended for t in record.trials.values() if t.ended is not None), default=0.0)
    if last_end > arrivals[-1].time:  # what ended after the last report has no report of its own
        volumes.append(volumes[-1])
        trials.append(record.num_ended)
        epochs.append(epochs[-1])
        minutes.append((last_end - started) / 60)
    kept = [
        place
        for place, volume in enumerate(volumes)
        if place in (0, len(volumes) - 1) or volume != volumes[place - 1]
    ]
    return HypervolumeInfo(
        volumes=[volumes[place] for place in kept],
        trials=[trials[place] for place in kept],
        epochs=[epochs[place] for place in kept],
        minutes=[minutes[place] for place in kept],
        reference=record.front.reference,
    )


def _volumes(
    arrivals: Sequence[Arrival], record: SweepRecord, reference: Mapping[str, float]
) -> list[float]:
    """At each arrival: of the feasible front so far, which imported points are on from the beginning.

    What is feasible is judged by all that is known now, the baseline too.
    """
    points = {(p.trial, p.epoch): p for trial in record.trials.values() for p in trial.points}
    imported = [p for trial in record.imported.values() for p in trial.points]
    arrived = [points.get((arrival.trial, arrival.epoch)) for arrival in arrivals]
    counts = [p is not None and record.front.violation(p.metrics) == 0 for p in (*imported, *arrived)]
    values = [p.values for p, is_one in zip((*imported, *arrived), counts, strict=True) if p and is_one]
    history = [0.0, *hypervolume_history(values, minimised(reference, record.front.objectives))]
    return [history[num_counting] for num_counting in accumulate(counts)][len(imported) :]


def _progress(arrivals: Sequence[Arrival], record: SweepRecord) -> tuple[list[int], list[int]]:
    """At each arrival: the trials that had ended, and the epochs trained so far."""
    ends = sorted(trial.ended for trial in record.trials.values() if trial.ended is not None)
    last: dict[str, int] = {}
    num_ended, num_epochs = 0, 0
    trials, epochs = [], []
    for arrival in arrivals:
        while num_ended < len(ends) and ends[num_ended] <= arrival.time:
            num_ended += 1
        num_epochs += max(0, arrival.epoch - last.get(arrival.trial, 0))
        last[arrival.trial] = max(arrival.epoch, last.get(arrival.trial, 0))
        trials.append(num_ended)
        epochs.append(num_epochs)
    return trials, epochs


def plot(drawn: HypervolumeInfo) -> go.Figure:
    """Three panels, one below the other, over the same hypervolume."""
    figure = make_subplots(rows=3, cols=1, vertical_spacing=0.13, figure=new_figure())
    columns = (drawn.trials, drawn.epochs, drawn.minutes)
    for row, (values, name) in enumerate(zip(columns, _AXES, strict=True), start=1):
        figure.add_scatter(
            x=values,
            y=drawn.volumes,
            mode="lines",
            line={"shape": "hv", "color": SERIES[0], "width": 2},
            hovertemplate=f"%{{y:.5g}} after %{{x:.4g}} {name}<extra></extra>",
            showlegend=False,
            row=row,
            col=1,
        )
        step = whole_steps(drawn.trials[-1]) if values is drawn.trials else None
        figure.update_xaxes(title_text=name, title_standoff=4, dtick=step, row=row, col=1)
    figure.update_yaxes(title_text="hypervolume", row=2, col=1)
    return figure
