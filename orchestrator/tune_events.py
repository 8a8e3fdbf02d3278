"""Turns what Ray Tune tells a callback into events of the sweep."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray import cloudpickle
from ray.tune import Callback
from ray.tune.experiment import Trial

from orchestrator.budget import SweepStopper
from orchestrator.events import (
    Event,
    TrialEnded,
    TrialReported,
    TrialRetried,
    TrialStarted,
    TrialWarned,
)
from orchestrator.failures import describe_failure, kind_of
from orchestrator.record import SweepRecord
from orchestrator.retries import RetryQueue, judge
from orchestrator.watchdog import Watchdog
from trainables.disk import DiskFullError
from trainables.ray_train import NAME_KEY, REPORT_KEY, WARNING_KEY

logger = logging.getLogger(__name__)

Emit = Callable[[Event], None]


class TuneEvents(Callback):
    """Emits an event for each start, report, warning, failed attempt and end of a trial.

    Args:
        emit: takes the events.
        record: the sweep as it is now.
        stopper: says why trials are ended together.
        stopped: the trials that were decided to be stopped early, each with the reason.
        retries: takes the trials that are to be attempted again.
        max_retries: of a trial.
        watchdog: ends trials that hang.
        after_step: is called after each step of Tune, also while it has nothing to start.
    """

    def __init__(
        self,
        emit: Emit,
        record: SweepRecord,
        stopper: SweepStopper,
        stopped: Mapping[str, str],
        retries: RetryQueue,
        max_retries: int,
        watchdog: Watchdog,
        after_step: Callable[[], object] = lambda: None,
    ) -> None:
        self._emit = emit
        self._record = record
        self._stopper = stopper
        self._stopped = stopped
        self._retries = retries
        self._max_retries = max_retries
        self._watchdog = watchdog
        self._after_step = after_step

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune's own snapshots are not used, the ledger is the one truth."""
        return {}

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        self._watchdog.look()
        self._after_step()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._watchdog.start(trial)
        self._emit(TrialStarted(trial.config[NAME_KEY], time.time()))

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        name = trial.config[NAME_KEY]
        self._watchdog.hear(trial)
        if WARNING_KEY in result:
            self._emit(TrialWarned(name, result[WARNING_KEY], time.time()))
        report = json.loads(result.get(REPORT_KEY, "null"))
        if report and report["epoch"] > self._record.trial(name).last_epoch:
            self._emit(TrialReported(name, report, time.time()))

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        name = trial.config[NAME_KEY]
        self._watchdog.forget(trial)
        if name in self._stopped:
            self._emit(TrialEnded(name, "stopped", self._stopped[name], time.time()))
        elif not trial.last_result.get("done"):
            self._emit(TrialEnded(name, "interrupted", self._stopper.reason, time.time()))
        elif not self._record.trial(name).points:
            reason = "it reported no finite value of every objective"
            self._emit(TrialEnded(name, "failed", reason, time.time()))
        else:
            self._emit(TrialEnded(name, "completed", "", time.time()))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        text = Path(trial.error_file).read_text() if trial.error_file else ""
        reason, details = describe_failure(text)
        if hung := self._watchdog.forget(trial):
            reason = hung
        self._end_attempt(trial.config[NAME_KEY], _error_of(trial), reason, details)

    def _end_attempt(self, name: str, error: BaseException | None, reason: str, details: str) -> None:
        trial = self._record.trial(name)
        kind = kind_of(error)
        verdict = judge(kind, trial.num_retries, self._max_retries)
        if kind == "preempted":  # of which Ray's text says as good as nothing
            reason = "its node was preempted"
        if verdict.is_retried and not self._stopper.reason:
            now = time.time()
            self._emit(TrialRetried(name, reason, now, details, is_counted=verdict.is_counted))
            self._retries.put(trial, verdict.pause_s)
        elif verdict.is_retried:  # by a resume
            self._emit(TrialEnded(name, "interrupted", self._stopper.reason, time.time()))
        else:
            tried = f" (attempt {trial.num_retries + 1})" if trial.num_retries else ""
            self._emit(TrialEnded(name, "failed", reason + tried, time.time(), details))
            if reason.startswith(DiskFullError.__name__):  # so will all others
                advice = "make room, then resume the sweep"
                self._stopper.fail(f"{name} found the disk full; {advice}")


def _error_of(trial: Trial) -> BaseException | None:
    """What ended a trial's attempt, as Tune keeps it; None where it cannot be read back."""
    if trial.pickled_error_file is None:
        return None
    try:
        # `get_pickled_error` looks in the storage, where it comes later.
        with Path(trial.pickled_error_file).open("rb") as file:
            return cloudpickle.load(file)
    except Exception:  # whatever another process' classes raise
        logger.exception("the error of %s cannot be read back", trial.config[NAME_KEY])
        return None
