"""Which trials of an earlier sweep fit into a new one, and why the others do not. Pure.

A trial fits where the new sweep could have proposed it: what varies has values that can be drawn, and
everything else is the same. Nothing is guessed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import ValidationError

from orchestrator.errors import UserError
from orchestrator.events import TrialImported
from orchestrator.search_space import Parameter, Value, is_active, order, to_trial_config
from orchestrator.settings import SweepSettings
from orchestrator.trial_settings import by_dotted_name, without_effect, without_effect_on
from trainables.reports import EpochReport

_MAY_DIFFER = frozenset({"seed", "device", "preset"})
"""What is not compared, unless it is searched: the trial computes the same but for chance; a preset is a
name for settings that are all compared."""
_MAX_SHOWN = 3


@dataclass(frozen=True)
class EarlierTrial:
    """A trial of another sweep.

    Attributes:
        source: the sweep and the trial, such as digits-1/trial-0003.
        has_failed: whether it ended so.
        settings: its configuration by dotted name, as far as it is known.
        reports: of its validated epochs.
    """

    source: str
    has_failed: bool
    settings: Mapping[str, Value]
    reports: Sequence[EpochReport]


@dataclass(frozen=True)
class EarlierSweep:
    """Another sweep as it is now.

    Attributes:
        name: as it was given.
        trials: in the order of proposal.
    """

    name: str
    trials: Sequence[EarlierTrial]


class Misfit(NamedTuple):
    """One thing that is in a trial's way.

    Attributes:
        law: what holds here, as a text that trials may share: a setting's value or range, or a
            requirement.
        setting: its dotted name; empty where it is no setting.
        there: the setting's value in the trial, as text.
    """

    law: str
    setting: str = ""
    there: str = ""


_KNOWN = (Misfit("imported already"),)
"""What is in the way of a trial that came in by another sweep."""


class Imports(NamedTuple):
    """What is taken from earlier sweeps.

    Attributes:
        trials: those that fit, as events.
        reports: of each sweep what fits and what does not, as text.
    """

    trials: list[TrialImported]
    reports: list[str]


def import_sweeps(sweeps: Iterable[EarlierSweep], settings: SweepSettings, at: float) -> Imports:
    """The trials of earlier sweeps that fit.

    Args:
        sweeps: which.
        settings: the new sweep's.
        at: the time of the events.

    Raises:
        UserError: nothing of one of them fits; the message says why.
    """
    taken: list[EarlierTrial] = []
    events: list[TrialImported] = []
    texts: list[str] = []
    for sweep in sweeps:
        refused: list[tuple[Misfit, ...]] = []
        for trial in sweep.trials:
            event = fit(trial, settings, f"import-{len(events):04d}", at)
            if any(trial.reports == other.reports for other in taken) and trial.reports:
                event = _KNOWN
            if isinstance(event, TrialImported):
                taken.append(trial)
                events.append(event)
            else:
                refused.append(event)
        texts.append(_report(sweep, refused))
    return Imports(events, texts)


def fit(
    trial: EarlierTrial, settings: SweepSettings, name: str, at: float
) -> TrialImported | tuple[Misfit, ...]:
    """The trial as one of the new sweep under a name of its own there, or all that is in its way."""
    if trial.has_failed:
        return (Misfit("failed"),)
    if not trial.reports:
        return (Misfit("without a validated epoch"),)
    values, misfits = _drawn(trial.settings, settings.search_space)
    misfits += _differences(trial.settings, values, settings, compares_space=not misfits)
    if misfits:
        return tuple(misfits)
    reports = [report for report in trial.reports if not _lacking(report, settings)]
    if not reports:
        lacking = " and ".join(_lacking(trial.reports[-1], settings))
        return (Misfit(f"without an epoch with a finite {lacking}"),)
    try:
        config = to_trial_config(settings.trial, _in_effect(trial.settings) | values)
    except ValidationError as error:
        return (Misfit(error.errors()[0]["msg"]),)
    data = [report.to_dict() for report in reports]
    return TrialImported(name, trial.source, values, config.model_dump(), data, at)


def _drawn(
    there: Mapping[str, Value], space: Mapping[str, Parameter]
) -> tuple[dict[str, Value], list[Misfit]]:
    """The values of the parameters that exist in a trial, and those that cannot be drawn."""
    values: dict[str, Value] = {}
    misfits: list[Misfit] = []
    for name in order(space):
        if not is_active(space[name], values):
            continue
        if name in there and space[name].contains(there[name]):
            values[name] = _as_drawn(space[name], there[name])
        else:
            misfits.append(Misfit(_range(space[name]), name, _text_in(there, name, digits=4)))
    return values, misfits


def _as_drawn(parameter: Parameter, value: Value) -> Value:
    """A value that the parameter contains, as a sampler gives it: 2, not 2.0, where 2 is a choice."""
    if parameter.choice is not None:
        return next(
            v for v in parameter.choice if v == value and isinstance(v, bool) == isinstance(value, bool)
        )
    assert isinstance(value, (int, float))
    return int(value) if parameter.int is not None else float(value)


def _differences(
    there: Mapping[str, Value],
    values: Mapping[str, Value],
    settings: SweepSettings,
    compares_space: bool,
) -> list[Misfit]:
    """The settings that were not drawn and differ from the new sweep's own.

    Args:
        there: the trial's.
        values: the parameters that exist.
        settings: the new sweep's.
        compares_space: whether parameters that do not exist are compared too; not where it is unclear
            which do.
    """
    here = by_dotted_name(settings.trial.model_dump())
    space = settings.search_space
    not_searched = (_MAY_DIFFER | without_effect_on(there.get("dataset"))) - space.keys()
    skipped = values.keys() | without_effect(there.get("head.kind")) | not_searched
    if not compares_space:
        skipped |= space.keys()
    return [
        Misfit(_text_in(here, name), name, _text_in(there, name))
        for name in dict.fromkeys([*here, *there])
        if name not in skipped and (name not in here or name not in there or here[name] != there[name])
    ]


def _in_effect(there: Mapping[str, Value]) -> dict[str, Value]:
    return {n: v for n, v in there.items() if n not in without_effect(there.get("head.kind"))}


def _lacking(report: EpochReport, settings: SweepSettings) -> list[str]:
    """The objectives that an epoch has no finite value of."""
    metrics = report.metrics
    return [name for name in settings.objectives if not math.isfinite(metrics.get(name, math.nan))]


def _report(sweep: EarlierSweep, refused: Sequence[tuple[Misfit, ...]]) -> str:
    """How many trials fit, and one line for each reason why others do not.

    Raises:
        UserError: none fits.
    """
    num_trials = len(sweep.trials)
    groups: dict[tuple[tuple[str, str], ...], list[tuple[Misfit, ...]]] = {}
    for misfits in refused:
        groups.setdefault(tuple((m.law, m.setting) for m in misfits), []).append(misfits)
    lines = [
        f"  {len(group)}: {', '.join(map(_sentence, zip(*group, strict=True)))}"
        for group in sorted(groups.values(), key=len, reverse=True)
    ]
    if len(refused) == num_trials and _KNOWN not in refused:
        title = f"--import {sweep.name}: none of its {num_trials} trials fits"
        advice = "import another sweep, or give trial, search_space and objectives what this one had"
        raise UserError("\n".join([title, *lines, advice]))
    title = f"import {sweep.name}: {num_trials - len(refused)} of {num_trials} trials fit"
    return "\n".join([title, *lines])


def _sentence(misfits: Sequence[Misfit]) -> str:
    """What trials have in their way, with some of the values that they have for it."""
    law, setting, _ = misfits[0]
    if not setting:
        return law
    values = list(dict.fromkeys(misfit.there for misfit in misfits))
    some = values[:_MAX_SHOWN] + (["others"] if len(values) > _MAX_SHOWN else [])
    listed = " or ".join([*([", ".join(some[:-1])] if some[:-1] else []), some[-1]])
    return f"{setting} is {listed} there and {law} here"


def _range(parameter: Parameter) -> str:
    if parameter.choice is not None:
        return f"one of {', '.join(map(_text, parameter.choice))}"
    return f"{parameter.low:g} to {parameter.high:g}"


def _text_in(settings: Mapping[str, Value], name: str, digits: int | None = None) -> str:
    return _text(settings[name], digits) if name in settings else "unknown"


def _text(value: Value, digits: int | None = None) -> str:
    """A value as YAML has it, floats rounded where `digits` are given."""
    if isinstance(value, float) and digits:
        return f"{value:.{digits}g}"
    return value if isinstance(value, str) else json.dumps(value)
