"""How much of each objective's variation goes with each parameter: fANOVA (Hutter et al. 2014).

A parameter that exists in some trials only is judged among those.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, NamedTuple

import plotly.graph_objects as go

from dashboards.figures.axes import LOGARITHMIC
from dashboards.figures.samples import some_of
from dashboards.figures.style import SERIES, new_figure
from dashboards.sweep_story import SweepStory
from orchestrator.search_space import Value
from orchestrator.settings import SweepSettings
from orchestrator.trials import Trial

if TYPE_CHECKING:
    from optuna import Study

MIN_TRIALS = 16
"""Of fewer a forest of regression trees says nothing."""
MAX_TRIALS = 300
"""Drawn from the sweep; more take seconds and change little."""
_SEED = 0
_NUM_TREES = 32
_ROUNDING = 1e-9
"""Of values that are closer together, as a share of them, trees cannot tell one from another."""


class ParameterImportance(NamedTuple):
    """One parameter.

    Attributes:
        parameter: dotted name.
        num_trials: that have it, and were judged.
        shares: objective to the share of its variation; they add up to 1 over the parameters that the
            same trials have.
    """

    parameter: str
    num_trials: int
    shares: dict[str, float]


class ImportanceInfo(NamedTuple):
    """What is drawn.

    Attributes:
        parameters: from the least important for the first objective to the most.
        objectives: in the order of the sweep's settings.
        num_trials: that have any point, and parameters from the search space.
    """

    parameters: list[ParameterImportance]
    objectives: list[str]
    num_trials: int


class _Observation(NamedTuple):
    """A trial's parameters, and the objectives' values at the point that stands for it."""

    parameters: Mapping[str, Value]
    values: Mapping[str, float]


def info(story: SweepStory) -> ImportanceInfo | None:
    """None where there are too few trials, or nothing varies."""
    record, settings = story.record, story.settings
    objectives = list(record.front.objectives)
    found = [
        _Observation(trial.parameters, {name: _scaled(name, point.metrics[name]) for name in objectives})
        for trial in record.counted_trials
        if (point := record.front.representative(trial)) is not None and _is_in_space(trial, settings)
    ]
    judged = [
        _importance(settings, names, [o for o in found if o.parameters.keys() >= names], objectives)
        for names in _groups(settings, found)
    ]
    parameters = [one for group in judged for one in group]
    if not parameters:
        return None
    first = objectives[0]
    return ImportanceInfo(
        sorted(parameters, key=lambda one: (one.shares[first], one.parameter)), objectives, len(found)
    )


def _is_in_space(trial: Trial, settings: SweepSettings) -> bool:
    """Whether every value could have been drawn; Optuna refuses others."""
    space = settings.search_space
    return all(space[name].contains(value) for name, value in trial.parameters.items() if name in space)


def _scaled(name: str, value: float) -> float:
    """Sizes are judged by their ratios: 4 against 8 as much as 40 against 80."""
    return math.log(value) if name in LOGARITHMIC and value > 0 else value


def _groups(settings: SweepSettings, found: Sequence[_Observation]) -> list[frozenset[str]]:
    """The parameters by the trials that have them."""
    groups: dict[tuple[int, ...], set[str]] = {}
    for name in settings.search_space:
        where = tuple(place for place, o in enumerate(found) if name in o.parameters)
        groups.setdefault(where, set()).add(name)
    return [frozenset(names) for where, names in groups.items() if len(where) >= MIN_TRIALS]


def _importance(
    settings: SweepSettings,
    names: frozenset[str],
    found: Sequence[_Observation],
    objectives: Sequence[str],
) -> list[ParameterImportance]:
    """Of the parameters that exist in just these trials, judged beside all that exist in them.

    A parameter that has the same value in all of them is left out.
    """
    some = some_of(found, MAX_TRIALS)
    common = [
        name
        for name in settings.search_space
        if all(name in o.parameters for o in some) and len({o.parameters[name] for o in some}) > 1
    ]
    own = [name for name in common if name in names]
    if not own:
        return []
    shares = {objective: _shares(settings, common, some, objective) for objective in objectives}
    return [
        ParameterImportance(
            name, len(some), {objective: shares[objective][name] for objective in shares}
        )
        for name in own
    ]


def _shares(
    settings: SweepSettings, names: Sequence[str], found: Sequence[_Observation], objective: str
) -> dict[str, float]:
    """Of the variation of one objective; 0 of all where there is none but rounding."""
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    values = [o.values[objective] for o in found]
    if max(values) - min(values) <= _ROUNDING * max(map(abs, values)):
        return dict.fromkeys(names, 0.0)
    evaluator = FanovaImportanceEvaluator(n_trees=_NUM_TREES, seed=_SEED)
    study = _study(settings, names, found, values)
    return get_param_importances(study, evaluator=evaluator, params=list(names))


def _study(
    settings: SweepSettings,
    names: Sequence[str],
    found: Sequence[_Observation],
    values: Sequence[float],
) -> Study:
    """The trials as Optuna knows them."""
    import optuna
    from optuna.trial import create_trial

    from orchestrator.proposals import distribution

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study()
    finally:
        optuna.logging.set_verbosity(verbosity)
    distributions = {name: distribution(settings.search_space[name]) for name in names}
    study.add_trials(
        [
            create_trial(
                params={name: o.parameters[name] for name in names},
                distributions=distributions,
                value=value,
            )
            for o, value in zip(found, values, strict=True)
        ]
    )
    return study


def plot(drawn: ImportanceInfo) -> go.Figure:
    """Bars, one an objective for each parameter."""
    figure = new_figure()
    names = [
        f"{html.escape(one.parameter)}<br><sub>{one.num_trials} trials</sub>" for one in drawn.parameters
    ]
    for objective, colour in zip(drawn.objectives, cycle(SERIES), strict=False):
        figure.add_bar(
            y=names,
            x=[one.shares[objective] for one in drawn.parameters],
            orientation="h",
            name=html.escape(objective),
            marker={"color": colour},
            hovertemplate="%{x:.1%}<extra>" + html.escape(objective) + "</extra>",
        )
    # Bars of a group are drawn from the bottom up.
    figure.update_layout(barmode="group", bargap=0.3, legend={"traceorder": "reversed"})
    figure.update_xaxes(title_text="share of variation", tickformat=".0%", rangemode="tozero")
    return figure
