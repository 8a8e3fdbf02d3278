"""Turns what Ray Tune tells a callback into events of the sweep."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ray.exceptions import RayActorError, RayTaskError
from ray.tune import Callback
from ray.tune.experiment import Trial

from orchestrator.budget import SweepStopper
from orchestrator.events import Event, TrialEnded, TrialReported, TrialStarted
from orchestrator.record import SweepRecord
from trainables.ray_train import NAME_KEY, REPORT_KEY

Emit = Callable[[Event], None]


class TuneEvents(Callback):
    """Emits an event for each start, report and end of a trial."""

    def __init__(self, emit: Emit, record: SweepRecord, stopper: SweepStopper) -> None:
        self._emit = emit
        self._record = record
        self._stopper = stopper

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune's own snapshots are not used, the ledger is the one truth."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._emit(TrialStarted(trial.config[NAME_KEY], time.time()))

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        if REPORT_KEY in result:
            self._emit(TrialReported(trial.config[NAME_KEY], result[REPORT_KEY], time.time()))

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        name = trial.config[NAME_KEY]
        if not trial.last_result.get("done"):
            self._emit(TrialEnded(name, "stopped", self._stopper.reason, time.time()))
        elif not self._record.trials[name].points:
            reason = "it reported no finite value of every objective"
            self._emit(TrialEnded(name, "failed", reason, time.time()))
        else:
            self._emit(TrialEnded(name, "completed", "", time.time()))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        reason, details = describe_failure(trial.get_error())
        self._emit(TrialEnded(trial.config[NAME_KEY], "failed", reason, time.time(), details))


def describe_failure(error: BaseException | None) -> tuple[str, str]:
    """One sentence and a traceback for what ended a trial."""
    if error is None:
        return "it ended with an error that Ray did not keep", ""
    details = str(error)
    cause = error
    while isinstance(cause, RayTaskError) and isinstance(cause.cause, BaseException):
        cause = cause.cause
    if isinstance(cause, RayActorError):
        return f"its process died: {_first_line(cause)}", details
    return f"{type(cause).__name__}: {_first_line(cause)}", details


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else "no message"
