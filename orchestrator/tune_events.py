"""Turns what Ray Tune tells a callback into events of the sweep."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from orchestrator.budget import SweepStopper
from orchestrator.events import Event, TrialEnded, TrialReported, TrialStarted, TrialWarned
from orchestrator.record import SweepRecord
from trainables.disk import DiskFullError
from trainables.ray_train import NAME_KEY, REPORT_KEY, WARNING_KEY

Emit = Callable[[Event], None]
_FAILURE_HEADER = re.compile(r"^Failure # \d+ \(occurred at [^)]*\)\n", re.MULTILINE)
_TERMINAL_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_RAISED = re.compile(r"^([A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|Warning)): (.+)$")


class TuneEvents(Callback):
    """Emits an event for each start, report, warning and end of a trial.

    Args:
        emit: takes the events.
        record: the sweep as it is now.
        stopper: says why trials are ended together.
        stopped: the trials that were decided to be stopped early, each with the reason.
    """

    def __init__(
        self, emit: Emit, record: SweepRecord, stopper: SweepStopper, stopped: Mapping[str, str]
    ) -> None:
        self._emit = emit
        self._record = record
        self._stopper = stopper
        self._stopped = stopped

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune's own snapshots are not used, the ledger is the one truth."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._emit(TrialStarted(trial.config[NAME_KEY], time.time()))

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        name = trial.config[NAME_KEY]
        if WARNING_KEY in result:
            self._emit(TrialWarned(name, result[WARNING_KEY], time.time()))
        report = json.loads(result.get(REPORT_KEY, "null"))
        if report and report["epoch"] > self._record.trial(name).last_epoch:
            self._emit(TrialReported(name, report, time.time()))

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        name = trial.config[NAME_KEY]
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
        self._end_failed(trial.config[NAME_KEY], text)

    def _end_failed(self, name: str, text: str) -> None:
        reason, details = describe_failure(text)
        self._emit(TrialEnded(name, "failed", reason, time.time(), details))
        if reason.startswith(DiskFullError.__name__):  # so will all others
            advice = "make room, then resume the sweep"
            self._stopper.fail(f"{name} found the disk full; {advice}")


def describe_failure(text: str) -> tuple[str, str]:
    """One sentence and the traceback, from the text that Tune keeps of a trial's error."""
    details = _TERMINAL_COLOURS.sub("", _FAILURE_HEADER.sub("", text)).strip()
    lines = [line.strip() for line in details.splitlines() if line.strip()]
    if not lines:
        return "it ended with an error that Ray did not keep", ""
    if "ActorDiedError" in lines[0] or lines[0].startswith("The actor died"):
        return f"its process died: {_death(lines)}", details
    raised = [match for line in lines if (match := _RAISED.match(line))]
    if not raised:
        return lines[0], details
    kind, message = raised[-1].groups()
    return f"{kind.rsplit('.', 1)[-1]}: {message}", details


def _death(lines: list[str]) -> str:
    """The sentence of an actor's obituary that says how its process ended."""
    line = next((line for line in lines if "exit type" in line.lower()), lines[0])
    return line.split(" Some common causes")[0]
