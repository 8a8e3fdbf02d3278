"""A sweep's story as plain values, to compare the one of MLflow with the one of the ledger."""

from __future__ import annotations

import math
from typing import Any

import pytest

from dashboards.sweep_story import SweepStory
from orchestrator.trials import Point, Trial

_OF_A_TRIAL = (
    "number",
    "parameters",
    "config",
    "status",
    "reason",
    "details",
    "last_epoch",
    "source",
    "num_retries",
)


def facts(story: SweepStory) -> dict[str, Any]:
    """Everything that pages show and that is no time."""
    record = story.record
    return {
        "name": story.name,
        "settings": story.settings.model_dump(),
        "environment": story.environment,
        "warnings": story.warnings,
        "retries": [(r.trial, r.reason, r.details, r.is_counted) for r in story.retries],
        "arrivals": [(arrival.trial, arrival.epoch) for arrival in story.arrivals],
        "spans": [(span.trial, span.end is None) for span in story.spans],
        "id": record.id,
        "trials": [_trial(trial) for trial in record.trials.values()],
        "imported": [_trial(trial) for trial in record.imported.values()],
        "confirming": [_trial(trial) for trial in record.confirming.values()],
        "front": [_point(point) for point in record.front.sorted()],
        "baseline": record.front.baseline and _point(record.front.baseline),
        "picked": record.front.picked and _point(record.front.picked),
        "evaluations": record.evaluations,
        "hypervolumes": record.hypervolumes,
        "num_epochs": record.num_epochs,
        "status": (record.status, record.reason, record.search_ended is None),
        "counts": {s: record.count(s) for s in ("pending", "running", "interrupted", "completed")},
    }


def times(story: SweepStory) -> list[float]:
    """Every time that pages show, in seconds."""
    record = story.record
    return [
        story.latest,
        record.started or 0.0,
        record.ended or 0.0,
        record.search_ended or 0.0,
        record.active_s,
        record.searched_s,
        *[time for trial in record.own_trials for time in (trial.started or 0.0, trial.ended or 0.0)],
        *[trial.training_time_s for trial in record.own_trials],
        *[arrival.time for arrival in story.arrivals],
        *[time for span in story.spans for time in (span.start, span.end or 0.0)],
    ]


def assert_same(tracked: SweepStory, told: SweepStory) -> None:
    """That nothing differs but parts of milliseconds, which MLflow has not."""
    found, expected = facts(tracked), facts(told)
    for name, value in expected.items():
        assert found[name] == value, name
    assert times(tracked) == pytest.approx(times(told), abs=5e-3, rel=0)


def _trial(trial: Trial) -> dict[str, Any]:
    told = {name: getattr(trial, name) for name in _OF_A_TRIAL}
    best = trial.best and _point(trial.best)
    return told | {
        "trial": (trial.name, trial.confirms),
        "points": [_point(point) for point in trial.points],
        "front": [_point(point) for point in trial.front],
        "best": best,
    }


def _point(point: Point) -> tuple[str, int, dict[str, float | str], tuple[float, ...]]:
    metrics = {n: "nan" if math.isnan(v) else v for n, v in point.metrics.items()}
    return point.trial, point.epoch, metrics, point.values
