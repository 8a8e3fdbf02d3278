"""Stories of sweeps that nobody ran: events as a driver writes them, as many as are wanted."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from dashboards.sweep_story import SweepStory
from orchestrator.events import (
    Event,
    RunOpened,
    SearchEnded,
    SweepEnded,
    SweepStarted,
    TrialEnded,
    TrialImported,
    TrialProposed,
    TrialReported,
    TrialStarted,
    TrialStatus,
)
from orchestrator.search_space import Value, to_trial_config
from orchestrator.settings import SweepSettings, load_settings
from trainables.reports import METRICS, EpochReport

_STATE = re.compile(r'<script type="application/json" id="state">(.*?)</script>', re.DOTALL)
ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "search_spaces" / "digits.yaml"
START = 1_700_000_000.0


@cache
def digits_settings(*overrides: str) -> SweepSettings:
    """The settings of the digits search space, changed as `--set` would."""
    return load_settings(DIGITS, overrides)


def metrics(accuracy: float, d_eff: float, **more: float) -> dict[str, float]:
    """All metrics of a validation of images; those that are not given follow from the two."""
    values = {name: accuracy for name, metric in METRICS.items() if metric.task != "similarity"}
    values |= {name: d_eff for name in values if name.endswith("d_eff")}
    values |= {"d_eff_90": d_eff / 2, "d_eff_95": d_eff / 1.5, "d_eff_999": d_eff * 2}
    values |= {"train_loss": 2.0 - accuracy, "epoch_time_s": 1.0, "validation_time_s": 0.5}
    return {**values, **more}


def opening(settings: SweepSettings, name: str = "digits") -> list[Event]:
    """The events before the first trial."""
    environment = {"monocon-sweep": "0.1.0", "git_commit": "0" * 40, "cpu": "two cores"}
    started = SweepStarted(name, settings.model_dump(mode="json"), environment, START, "some-id")
    return [started, RunOpened("", "sweep-run", START)]


def proposal(
    settings: SweepSettings, number: int, parameters: Mapping[str, Value], at: float = START
) -> list[Event]:
    """A trial that a process took up at once."""
    name = f"trial-{number:04d}"
    config = to_trial_config(settings.trial, parameters).model_dump(mode="json")
    return [
        TrialProposed(name, number, dict(parameters), config, at),
        RunOpened(name, f"run-{number}", at),
        TrialStarted(name, at),
    ]


def report(number: int, epoch: int, values: Mapping[str, float], at: float = START) -> TrialReported:
    training = {epoch: {"train_loss": 1.0, "no_positive_share": 0.0, "epoch_time_s": 1.0}}
    return TrialReported(f"trial-{number:04d}", EpochReport(epoch, dict(values), training).to_dict(), at)


def parameters(kind: str, **more: Value) -> dict[str, Value]:
    """Of a trial of the digits search space; others than these by `more`, with __ for each dot."""
    head = {} if kind == "none" else {"head.depth": 1, "head.width_ratio": 2.0}
    rest = {"temperature": 0.1, "optimizer.head_lr": 0.002, "optimizer.encoder_lr_ratio": 1.0}
    return {"head.kind": kind, **head, **rest, **{n.replace("__", "."): v for n, v in more.items()}}


def trial(
    settings: SweepSettings,
    number: int,
    drawn: Mapping[str, Value],
    points: Sequence[Mapping[str, float]],
    *,
    at: float | None = None,
    ended: tuple[TrialStatus, str] | None = ("completed", ""),
    details: str = "",
) -> list[Event]:
    """A trial from its proposal to its end, if it has one: a report each fifth epoch and each tenth
    second, the end after another ten; trials follow each other each minute.
    """
    at = START + 60 * number if at is None else at
    events = proposal(settings, number, drawn, at)
    events += [report(number, 5 * place, p, at + 10 * place) for place, p in enumerate(points, 1)]
    if ended is not None:
        events.append(TrialEnded(f"trial-{number:04d}", *ended, at + 10 * len(points) + 10, details))
    return events


SMALL = {
    "none": [(0.90, 40.0), (0.95, 44.0), (0.97, 45.0), (0.96, 45.0)],
    "mlp": [(0.70, 20.0), (0.90, 22.0), (0.93, 24.0), (0.94, 30.0)],
    "monotonic": [(0.30, 2.0), (0.60, 4.0), (0.85, 7.0), (0.91, 9.0)],
}
"""Accuracy and d_eff at the epochs 5, 10, 15 and 20 of the small sweep's trials, by head kind."""


def small_events(*overrides: str, ended: bool = True) -> list[Event]:
    """Three trials of four epochs: none, mlp and monotonic."""
    settings = digits_settings(*overrides)
    events = opening(settings)
    for number, (kind, points) in enumerate(SMALL.items()):
        events += trial(settings, number, parameters(kind), [metrics(*point) for point in points])
    if ended:
        events += [
            SearchEnded("all 3 trials ended", START + 180),
            SweepEnded("completed", "all 3 trials ended", START + 200),
        ]
    return events


def small_story(*overrides: str, ended: bool = True, events: Sequence[Event] = ()) -> SweepStory:
    """The small sweep, and further events after it."""
    return SweepStory([*small_events(*overrides, ended=ended), *events])


def imported(number: int, drawn: Mapping[str, Value], *points: tuple[float, float]) -> TrialImported:
    """A trial of the sweep "earlier" in one over digits."""
    reports = [EpochReport(5 * n, metrics(*point)).to_dict() for n, point in enumerate(points, 1)]
    config = to_trial_config(digits_settings().trial, drawn).model_dump(mode="json")
    source = f"earlier/trial-{number:04d}"
    return TrialImported(f"import-{number:04d}", source, dict(drawn), config, reports, START)


def pairs_story() -> SweepStory:
    """Three trials of two epochs over pairs of sentences, judged by Spearman and d_eff."""
    settings = load_settings(ROOT / "search_spaces" / "snli_cpu.yaml")
    rates = {"temperature": 0.05, "optimizer.head_lr": 0.003, "optimizer.encoder_lr_ratio": 0.001}
    events = opening(settings, "snli_cpu")
    points = {"none": (0.84, 290.0), "mlp": (0.82, 150.0), "monotonic": (0.79, 60.0)}
    for number, (kind, (spearman, d_eff)) in enumerate(points.items()):
        head = {} if kind == "none" else {"head.width_ratio": 1.0, "warmup.head_lr": 0.003}
        epochs = [pair_metrics(spearman - 0.1, d_eff), pair_metrics(spearman, d_eff - 1)]
        events += trial(settings, number, {"head.kind": kind, **head, **rates}, epochs)
    return SweepStory(events)


def pair_metrics(spearman: float, d_eff: float) -> dict[str, float]:
    """All metrics of a validation of pairs."""
    of_images = {n for n, metric in METRICS.items() if metric.task == "classification"}
    values = {n: v for n, v in metrics(spearman, d_eff).items() if n not in of_images}
    return {**values, "spearman": spearman}


def large_events(num_trials: int, num_points: int, seed: int = 0) -> Iterator[Event]:
    """A sweep with so many trials of so many validated epochs; a fifth is stopped, some fail."""
    settings = digits_settings(f"search.trials={num_trials}")
    generator = np.random.default_rng(seed)
    yield from opening(settings, "large")
    now = START
    for number in range(num_trials):
        kind = ("none", "mlp", "monotonic")[number % 3]
        head = {} if kind == "none" else {"head.depth": 1 + number % 2, "head.width_ratio": 2.0}
        temperature = float(np.exp(generator.uniform(math.log(0.03), math.log(0.5))))
        rate = float(np.exp(generator.uniform(math.log(5e-4), math.log(8e-3))))
        drawn = {"temperature": temperature, "optimizer.head_lr": rate}
        drawn["optimizer.encoder_lr_ratio"] = float(generator.uniform(0.1, 1.0))
        yield from proposal(settings, number, {"head.kind": kind, **head, **drawn}, now)
        speed = math.exp(-abs(math.log(temperature / 0.1))) * generator.uniform(0.5, 1.0)
        width = {"none": 48.0, "mlp": 24.0, "monotonic": 10.0}[kind]
        last = num_points if number % 5 else max(1, num_points // 3)
        for place in range(1, last + 1):
            share = 1 - math.exp(-3 * speed * place / num_points)
            accuracy = 0.1 + 0.88 * share + float(generator.normal(0, 0.004))
            d_eff = max(1.0, round(width * (0.3 + 0.7 * share) * generator.uniform(0.8, 1.2)))
            now += 0.5
            yield report(number, place, metrics(min(accuracy, 1.0), d_eff), now)
        name = f"trial-{number:04d}"
        if number % 97 == 96:
            yield TrialEnded(name, "failed", f"diverged in epoch {last}", now, "Traceback ...")
        else:
            is_stopped = number % 5 == 0
            reason = f"dominated at epoch {last}" if is_stopped else ""
            yield TrialEnded(name, "stopped" if is_stopped else "completed", reason, now)
    yield SearchEnded("all trials ended", now)
    yield SweepEnded("completed", "all trials ended", now + 1)


def state_of(html: str) -> dict[str, Any]:
    """The content of a page (`dashboards.page.to_state`)."""
    found = _STATE.search(html)
    assert found is not None, "it is no page of ours"
    return json.loads(found[1])
