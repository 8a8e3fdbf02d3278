"""Every trial as a line through its parameters to its objectives."""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import plotly.graph_objects as go

from dashboards.figures.axes import LOGARITHMIC, log_ticks, number
from dashboards.figures.samples import some_of
from dashboards.figures.style import new_figure
from dashboards.sweep_story import SweepStory
from orchestrator.search_space import Parameter, Value
from orchestrator.trials import Point, Trial

_ABSENT = "absent"
_GAP = 0.15
"""Between the axis and the lines without its parameter, as a share of the axis."""
_NUM_TICKS = 5
MAX_LINES = 1500


class Dimension(NamedTuple):
    """One upright axis.

    Attributes:
        label: the parameter's or the objective's name, without its group.
        places: of each trial.
        ticks: places that are labelled.
        texts: their labels.
        ends: the lowest and the highest place that is shown.
    """

    label: str
    places: list[float]
    ticks: list[float]
    texts: list[str]
    ends: tuple[float, float]


class ParallelInfo(NamedTuple):
    """What is drawn.

    Attributes:
        dimensions: the parameters, then the objectives.
        colours: the first objective of each line's point.
        coloured_by: its name.
        is_maximised: whether more of it is better.
        num_lines: trials that are drawn.
        num_trials: that have any point.
    """

    dimensions: list[Dimension]
    colours: list[float]
    coloured_by: str
    is_maximised: bool
    num_lines: int
    num_trials: int


def info(story: SweepStory) -> ParallelInfo | None:
    """One line a trial: the point that stands for it (`Front.representative`); None without any."""
    record = story.record
    found = [
        (trial, point)
        for trial in record.counted_trials
        if (point := record.front.representative(trial)) is not None
    ]
    if not found:
        return None
    on_front = {point.trial for point in record.front}
    drawn = {trial.name for trial, _ in some_of(found, MAX_LINES)} | on_front
    lines = [(trial, point) for trial, point in found if trial.name in drawn]
    objectives = list(record.front.objectives)
    labels = _labels(list(story.settings.search_space))
    dimensions = [
        _parameter(name, labels[name], parameter, [trial for trial, _ in lines])
        for name, parameter in story.settings.search_space.items()
    ]
    dimensions += [_objective(name, [point for _, point in lines]) for name in objectives]
    return ParallelInfo(
        dimensions,
        [point.metrics[objectives[0]] for _, point in lines],
        objectives[0],
        record.front.objectives[objectives[0]] == "max",
        len(lines),
        len(found),
    )


def _labels(names: Sequence[str]) -> dict[str, str]:
    """Each parameter without its group, where that is enough to tell it from the others."""
    short = {name: name.rpartition(".")[2] for name in names}
    counts = Counter(short.values())
    return {name: label if counts[label] == 1 else name for name, label in short.items()}


def _parameter(name: str, label: str, parameter: Parameter, trials: Sequence[Trial]) -> Dimension:
    present = [trial.parameters[name] for trial in trials if name in trial.parameters]
    is_absent = [name not in trial.parameters for trial in trials]
    if parameter.choice is not None:
        shown = _categories(label, present, parameter.choice)
    elif parameter.int is not None:
        shown = _categories(label, present, sorted(set(present)))
    else:
        shown = _numbers(label, present, is_logarithmic=parameter.log_uniform is not None)
    return _with_absent(shown, is_absent) if any(is_absent) else shown


def _categories(label: str, values: Sequence[Value], choices: Sequence[Value]) -> Dimension:
    """At the places of the choices; what was tried beside them stands behind them."""
    every = dict.fromkeys((isinstance(value, bool), value) for value in (*choices, *values))
    places = {value: float(place) for place, value in enumerate(every)}
    drawn = [places[isinstance(value, bool), value] for value in values]
    return _dimension(label, drawn, list(places.values()), [str(value) for _, value in every])


def _numbers(label: str, values: Sequence[float], *, is_logarithmic: bool) -> Dimension:
    scale = math.log10 if is_logarithmic else float
    ticks = _nice(values, is_logarithmic) if values else []
    texts = [number(float(tick)) for tick in ticks]
    return _dimension(label, [scale(v) for v in values], [scale(tick) for tick in ticks], texts)


def _with_absent(shown: Dimension, is_absent: Sequence[bool]) -> Dimension:
    """With the lines of the trials that lack the parameter, below all that have it."""
    low, high = shown.ends
    below = low - _GAP * (high - low)
    present = iter(shown.places)
    places = [below if absent else next(present) for absent in is_absent]
    return _dimension(shown.label, places, [below, *shown.ticks], [_ABSENT, *shown.texts])


def _dimension(label: str, places: list[float], ticks: list[float], texts: list[str]) -> Dimension:
    shown = [*places, *ticks] or [0.0]
    low, high = min(shown), max(shown)
    return Dimension(label, places, ticks, texts, (low, high) if low < high else (low - 0.5, low + 0.5))


def _nice(values: Sequence[float], is_logarithmic: bool) -> list[float]:
    """Some values from the lowest to the highest; round ones on a logarithmic axis."""
    low, high = min(values), max(values)
    if is_logarithmic:
        inner = [tick for tick in log_ticks(values) if low <= tick <= high]
        every = max(1, -(-len(inner) // _NUM_TICKS))
        return inner[::every] or [low, high]
    return [low + (high - low) * share / (_NUM_TICKS - 1) for share in range(_NUM_TICKS)]


def _objective(name: str, points: Sequence[Point]) -> Dimension:
    values = [point.metrics[name] for point in points]
    return _numbers(name, values, is_logarithmic=name in LOGARITHMIC and min(values) > 0)


def plot(drawn: ParallelInfo) -> go.Figure:
    """Lines in the colour of the first objective; dragging along an axis chooses some of them."""
    figure = new_figure()
    figure.add_parcoords(
        dimensions=[
            {
                "label": html.escape(dimension.label),
                "values": dimension.places,
                "range": list(dimension.ends),
                "tickvals": dimension.ticks,
                "ticktext": [html.escape(text) for text in dimension.texts],
            }
            for dimension in drawn.dimensions
        ],
        line={
            "color": drawn.colours,
            "colorscale": "Cividis",
            "reversescale": not drawn.is_maximised,
            "showscale": True,
            "colorbar": {
                "title": {"text": html.escape(drawn.coloured_by), "side": "right"},
                "thickness": 12,
            },
        },
        labelangle=-25,
        labelfont={"size": 11},
        tickfont={"size": 10},
    )
    figure.update_layout(margin={"l": 66, "r": 20, "t": 78, "b": 18})
    return figure
