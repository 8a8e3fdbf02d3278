"""Sweeps with fronts of a few known points, to be compared; nobody ran them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from stories import START, digits_settings, metrics, opening, proposal, report

from dashboards.sweep_story import SweepStory
from orchestrator.events import Event, TrialEnded, TrialProposed
from orchestrator.settings import SweepSettings

Values = tuple[float, float]
DRAWN = {"head.kind": "none", "temperature": 0.1, "optimizer.head_lr": 0.002}


def story(
    *trials: Values,
    seeds: Mapping[int, Sequence[Values | None]] | None = None,
    settings: SweepSettings | None = None,
    more: Mapping[str, Any] | None = None,
) -> SweepStory:
    """A sweep of trials with one point each; under further seeds None is a trial that failed.

    Args:
        trials: accuracy and d_eff of each.
        seeds: trial to what each further seed gives.
        settings: the sweep's.
        more: settings of each trial that differ from the sweep's.
    """
    settings = settings or digits_settings("pick=null")
    events: list[Event] = opening(settings)
    for number, values in enumerate(trials):
        proposed, *rest = proposal(settings, number, DRAWN)
        assert isinstance(proposed, TrialProposed)
        config = {**proposed.config, **(more or {})}
        events += [replace(proposed, config=config), *rest, report(number, 5, metrics(*values))]
        events.append(TrialEnded(f"trial-{number:04d}", "completed", "", START))
    for number, found in (seeds or {}).items():
        for step, values in enumerate(found, start=1):
            events += _again(settings, number, step, values)
    return SweepStory(events)


def _again(settings: SweepSettings, number: int, step: int, values: Values | None) -> list[Event]:
    (proposed, *_), name = proposal(settings, number, DRAWN), f"trial-{number:04d}"
    assert isinstance(proposed, TrialProposed)
    again, config = f"{name}-seed-{step}", {**proposed.config, "seed": proposed.config["seed"] + step}
    events: list[Event] = [replace(proposed, trial=again, config=config, confirms=name)]
    if values is None:
        return [*events, TrialEnded(again, "failed", "it broke", START)]
    events.append(replace(report(number, 5, metrics(*values)), trial=again))
    return [*events, TrialEnded(again, "completed", "", START)]
