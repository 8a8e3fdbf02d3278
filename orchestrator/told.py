"""What Optuna is told of a sweep's trials: the one point that stands for each. Pure, free of Ray."""

from __future__ import annotations

import math
from collections.abc import Iterable

from orchestrator.ask_and_tell import Known, Told
from orchestrator.events import Event, TrialEnded, TrialImported
from orchestrator.record import SweepRecord
from orchestrator.settings import SweepSettings
from orchestrator.trials import Trial


def known_trials(settings: SweepSettings, history: Iterable[Event]) -> list[Known]:
    """What the study of a sweep that is resumed is told: of each trial what it was told before, also
    where the constraints say otherwise now that the baseline is known.
    """
    record = SweepRecord.of(settings)
    told_before: dict[str, Told | None] = {}
    for event in history:
        record.apply(event)
        if isinstance(event, TrialEnded) and event.trial in record.trials:
            told_before[event.trial] = told(record.trials[event.trial], record)
    return [
        Known(t.parameters, t.sampler_state, "running" if t.is_unfinished else told_before[t.name])
        for t in record.trials.values()
    ]


def imported_trials(settings: SweepSettings, history: Iterable[Event]) -> list[Known]:
    """What the study is told of the trials of earlier sweeps, before any of its own is known."""
    record = SweepRecord.of(settings, (e for e in history if isinstance(e, TrialImported)))
    return [Known(t.parameters, t.sampler_state, told(t, record)) for t in record.imported.values()]


def told(trial: Trial, record: SweepRecord) -> Told | None:
    """The point that stands for an ended trial, as the study is told of it; None where it has none."""
    point = record.front.representative(trial)
    if trial.status == "failed" or point is None:
        return None
    values = [point.metrics[name] for name in record.front.objectives]
    assert all(math.isfinite(value) for value in values)
    texts = record.front.constraints.texts()
    return Told(values, dict(zip(texts, record.front.excesses(point.metrics), strict=True)))
