"""What a click on a point shows of its trial, as data for the page's script."""

from __future__ import annotations

import html
import math
from collections.abc import Container, Iterable, Mapping
from typing import Any

from dashboards.figures.axes import LOGARITHMIC
from dashboards.sweep_story import SweepStory
from orchestrator.search_space import Value
from orchestrator.trial_settings import by_dotted_name, without_effect, without_effect_on
from orchestrator.trials import Trial

_SIZES = {
    "encoder_d_eff": "d_eff of the encoder's output",
    "unnormalized_d_eff": "d_eff before L2",
    "d_eff": "d_eff",
}
_LOSS = {"train_loss": "training loss"}
_DIGITS = 4
MANY_POINTS = 20_000
"""In sweeps of more points trials off the front bring the curves of their objectives only."""


def trial_panel(story: SweepStory) -> dict[str, Any]:
    """The data of all trials. Names, values and texts are as they came, not escaped: the page sets them
    as text; but the labels of curves are plotly's HTML.

    Returns:
        `objectives`; `curves`, the groups in which metrics share an axis; `common`, the settings that
        all trials have alike; and `items`, by trial: status, reason, warning, retries, source, run,
        parameters, config (where it differs from the others'), epochs, curves, front (epochs on it) and
        evaluated.
    """
    record = story.record
    objectives = list(record.front.objectives)
    groups = _groups(objectives)
    metrics = [metric["name"] for group in groups for metric in group["metrics"]]
    retries: dict[str, list[str]] = {}
    for retry in story.retries:
        retries.setdefault(retry.trial, []).append(retry.reason)
    trials = [*record.counted_trials, *record.confirming.values()]
    front = _epochs((point.trial, point.epoch) for point in record.front)
    evaluated = _epochs(key for key, found in record.evaluations.items() if found)
    configs = {trial.name: _settings(trial) for trial in trials}
    common = _common(configs.values())
    has_all = sum(len(trial.points) for trial in trials) <= MANY_POINTS
    items = {
        trial.name: {
            "status": trial.status,
            "reason": trial.reason,
            "warning": story.warnings.get(trial.name, ""),
            "retries": retries.get(trial.name, []),
            "source": trial.source,
            "confirms": trial.confirms,
            "run": record.run_ids.get(trial.name, ""),
            "parameters": _readable(trial.parameters),
            "config": _readable(_without(configs[trial.name], common.keys() | trial.parameters.keys())),
            "epochs": [point.epoch for point in trial.points],
            "curves": _curves(trial, metrics if has_all or trial.name in front else objectives),
            "front": front.get(trial.name, []),
            "evaluated": evaluated.get(trial.name, []),
        }
        for trial in trials
    }
    shown = _readable(_without(common, story.settings.search_space.keys()))
    return {"objectives": objectives, "curves": groups, "common": shown, "items": items}


def _epochs(points: Iterable[tuple[str, int]]) -> dict[str, list[int]]:
    """The epochs of each trial that has any, in order."""
    epochs: dict[str, list[int]] = {}
    for trial, epoch in sorted(points):
        epochs.setdefault(trial, []).append(epoch)
    return epochs


def _without(values: Mapping[str, Value], names: Container[str]) -> dict[str, Value]:
    return {name: value for name, value in values.items() if name not in names}


def _groups(objectives: Iterable[str]) -> list[dict[str, Any]]:
    groups = [
        _group(name, {name: name}, name in LOGARITHMIC) for name in objectives if name not in _SIZES
    ]
    return [*groups, _group("d_eff", _SIZES, logarithmic=True), _group("loss", _LOSS, logarithmic=False)]


def _group(label: str, metrics: Mapping[str, str], logarithmic: bool) -> dict[str, Any]:
    named = [{"name": name, "label": html.escape(text)} for name, text in metrics.items()]
    return {"label": html.escape(label), "metrics": named, "logarithmic": logarithmic}


def _settings(trial: Trial) -> dict[str, Value]:
    """Every setting that acts in the trial."""
    settings = by_dotted_name(trial.config)
    without = without_effect(settings["head.kind"]) | without_effect_on(settings["dataset"])
    return {name: value for name, value in settings.items() if name not in without}


def _common(configs: Iterable[Mapping[str, Value]]) -> dict[str, Value]:
    """What is the same in all of them."""
    common: dict[str, Value] | None = None
    for config in configs:
        if common is None:
            common = dict(config)
        common = {n: v for n, v in common.items() if n in config and config[n] == v}
    return common or {}


def _curves(trial: Trial, metrics: Iterable[str]) -> dict[str, list[float | None]]:
    if not trial.points:
        return {}
    present = [name for name in metrics if name in trial.points[0].metrics]
    return {name: [_rounded(point.metrics.get(name)) for point in trial.points] for name in present}


def _rounded(value: float | None) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    short = float(f"{value:.{_DIGITS}g}")
    return int(short) if short.is_integer() else short


def _readable(values: Mapping[str, Value]) -> dict[str, Value]:
    """As JSON has them: it knows no infinity."""
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }
