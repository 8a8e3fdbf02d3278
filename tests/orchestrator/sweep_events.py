"""Events, records and search spaces for the tests of this folder, with as little in them as will do."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from orchestrator.events import (
    Event,
    TrialEnded,
    TrialImported,
    TrialProposed,
    TrialReported,
    TrialRetried,
    TrialStarted,
    TrialStatus,
)
from orchestrator.front import Front
from orchestrator.record import SweepRecord
from orchestrator.settings import EvaluatedPoints, SweepSettings
from trainables.config import TrialConfig
from trainables.reports import Direction

OBJECTIVES: dict[str, Direction] = {"knn_accuracy": "max", "d_eff": "min"}
REFERENCE = {"knn_accuracy": 0.0, "d_eff": 128.0}
TRIALS = ("trial-0000", "trial-0001", "trial-0002")
EXAMPLES = settings(max_examples=60, deadline=None)

DIGITS: dict[str, Any] = {
    "dataset": "digits",
    "encoder": "digits_cnn",
    "encoder_weights": "none",
    "augmentation": "none",
}
CONDITIONAL_SPACE = {
    "head.kind": {"choice": ["none", "mlp", "monotonic"]},
    "head.depth": {"int": [1, 3], "when": {"head.kind": ["mlp", "monotonic"]}},
    "temperature": {"log_uniform": [0.03, 0.5]},
}
"""Draws of it have a depth exactly where there is a head."""

epochs_of_a_sweep = st.lists(
    st.tuples(
        st.sampled_from(TRIALS),
        st.integers(0, 8).map(lambda hits: hits / 8),
        st.integers(1, 8).map(float),
    ),
    max_size=25,
)
"""(trial, accuracy, d_eff) of reports in order; on a coarse grid, so that ties and equals are common."""


def proposed(trial: str, number: int = 0, **parameters: Any) -> TrialProposed:
    kind = parameters.get("head.kind", "monotonic")
    config = TrialConfig.model_validate({"head": {"kind": kind}}).model_dump()
    return TrialProposed(trial, number, parameters, config, time=0.0)


def imported(trial: str, *epochs: tuple[float, float], **parameters: Any) -> TrialImported:
    """A trial of the sweep "earlier"; an epoch's place, from 1, is its number."""
    found = [
        {"epoch": epoch, "metrics": {"knn_accuracy": accuracy, "d_eff": d_eff}, "training": {}}
        for epoch, (accuracy, d_eff) in enumerate(epochs, 1)
    ]
    config = TrialConfig().model_dump()
    return TrialImported(trial, f"earlier/{trial}", parameters, config, found, time=0.0)


def confirming(of: str, seed: int) -> TrialProposed:
    """A trial that repeats `of`, whose own seed is 42, under a further seed."""
    config = TrialConfig(seed=seed).model_dump()
    return TrialProposed(f"{of}-seed-{seed}", 0, {}, config, time=0.0, confirms=of)


def retried(trial: str, time: float = 0.0, is_counted: bool = True) -> TrialRetried:
    return TrialRetried(trial, "its process died", time, is_counted=is_counted)


def started(trial: str, time: float = 0.0) -> TrialStarted:
    return TrialStarted(trial, time)


def reported(
    trial: str, epoch: int, accuracy: float, d_eff: float, **more_metrics: float
) -> TrialReported:
    metrics = {"knn_accuracy": accuracy, "d_eff": d_eff, "validation_time_s": 0.5, **more_metrics}
    training = {epoch: {"train_loss": 1.0, "epoch_time_s": 2.0}}
    return TrialReported(trial, {"epoch": epoch, "metrics": metrics, "training": training}, time=0.0)


def ended(trial: str, status: TrialStatus = "completed", reason: str = "") -> TrialEnded:
    return TrialEnded(trial, status, reason, time=10.0)


def reports(epochs: list[tuple[str, float, float]]) -> list[TrialReported]:
    """One report an entry; the entry's place, from 1, is its epoch."""
    return [reported(trial, epoch, *values) for epoch, (trial, *values) in enumerate(epochs, start=1)]


def record_of(*events: Event, evaluated: EvaluatedPoints = "front") -> SweepRecord:
    """A record of TRIALS, all proposed, after these events."""
    record = SweepRecord(Front(OBJECTIVES, REFERENCE), evaluated)
    for number, trial in enumerate(TRIALS):
        record.apply(proposed(trial, number))
    for event in events:
        record.apply(event)
    return record


def settings_of(**changes: Any) -> SweepSettings:
    """Settings of a sweep over CONDITIONAL_SPACE."""
    given = {"name": "s", "trial": DIGITS, "search_space": CONDITIONAL_SPACE, **changes}
    return SweepSettings.model_validate(given)
