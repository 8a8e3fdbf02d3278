"""What Optuna is told of a sweep's trials: the one point that stands for each. Pure, free of Ray."""

from __future__ import annotations

import math

from orchestrator.proposals import Known
from orchestrator.record import SweepRecord, Trial


def known_trials(record: SweepRecord) -> list[Known]:
    """What the study is told of the trials of a sweep that is resumed."""
    return [
        Known(t.parameters, t.sampler_state, "running" if t.is_unfinished else told(t, record))
        for t in record.trials.values()
    ]


def imported_trials(record: SweepRecord) -> list[Known]:
    """What the study is told of the trials of earlier sweeps."""
    return [Known(t.parameters, t.sampler_state, told(t, record)) for t in record.imported.values()]


def told(trial: Trial, record: SweepRecord) -> list[float] | None:
    """The objective values of the point that stands for an ended trial; None where it has none."""
    point = record.representative(trial)
    if trial.status == "failed" or point is None:
        return None
    values = [point.metrics[name] for name in record.objectives]
    assert all(math.isfinite(value) for value in values)
    return values
