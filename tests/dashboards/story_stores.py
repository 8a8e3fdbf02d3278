"""Puts a story's events into a store of MLflow's by the product's own tracker."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from stories import START, digits_settings, metrics, opening, proposal, report
from tracked_sweeps import make_store, uri

from orchestrator.events import (
    Event,
    PointEvaluated,
    SearchEnded,
    SweepEnded,
    SweepStarted,
    TrialEnded,
    TrialImported,
    TrialReported,
    TrialStarted,
)
from orchestrator.mlflow_runs import MlflowRuns
from orchestrator.pages import DESCRIPTION, Links
from orchestrator.paths import SweepPaths
from orchestrator.record import SweepRecord
from orchestrator.retention import RetentionRule
from orchestrator.settings import SweepSettings
from orchestrator.settings_text import from_data, to_yaml
from orchestrator.tracking import Tracker

NONE = {"head.kind": "none", "temperature": 0.1}
RATES = {"optimizer.head_lr": 0.002, "optimizer.encoder_lr_ratio": 1.0}
MLP = {"head.kind": "mlp", "head.depth": 1, "head.width_ratio": 2.0, "temperature": 0.2, **RATES}


def begun(**changes: Any) -> list[Event]:
    """Two trials: one completed, one runs; nothing of them is at one moment."""
    settings = digits_settings()
    (started,) = [e for e in opening(settings) if isinstance(e, SweepStarted)]
    return [
        replace(started, **changes),
        *trial(0, {**NONE, **RATES}, START + 1.25),
        report(0, 5, metrics(0.9, 40.0), START + 3.5),
        report(0, 10, metrics(0.8, 44.0, recall_at_1=math.nan), START + 4.5),
        *trial(1, MLP, START + 5.125),
        report(1, 5, metrics(0.7, 20.0), START + 6.5),
        TrialEnded("trial-0000", "completed", "", START + 7.75),
        report(1, 10, metrics(0.85, math.inf), START + 8.5),
    ]


def trial(number: int, parameters: dict[str, Any], at: float) -> list[Event]:
    proposed, _, started = proposal(digits_settings(), number, parameters, at)
    assert isinstance(started, TrialStarted)
    return [proposed, replace(started, time=at + 0.5)]


def ended(at: float) -> list[Event]:
    return [
        TrialEnded("trial-0001", "stopped", "dominated at epoch 10", at),
        SearchEnded("all 2 trials ended", at + 1),
        SweepEnded("completed", "all 2 trials ended", at + 2),
    ]


class NoPages:
    """Draws nothing."""

    def draw_sweep(self, into: Path, links: Links, experiment_id: str) -> None:
        (into / DESCRIPTION).write_text("nothing")

    def draw_point(self, trial: str, epoch: int, into: Path, links: Links) -> None:
        pass


class TrackedDriver:
    """A driver that does nothing but tell MLflow.

    Args:
        folder: of the store; evaluations are looked for in its folder `runs`.
        events: those of the sweep up to now; the last one that starts a driver starts this one.
        num_before: of them that an earlier driver has told.
    """

    def __init__(self, folder: Path, events: Sequence[Event], num_before: int = 0) -> None:
        make_store(folder)
        started = events[0]
        assert isinstance(started, SweepStarted)
        self.settings = _with_uri(from_data(started.settings), uri(folder))
        self.record = SweepRecord.of(self.settings)
        self.runs = MlflowRuns(
            MlflowClient(uri(folder)),
            self.settings,
            started.name,
            started.id,
            started.environment,
            lambda trial, run_id: None,
        )
        rule = RetentionRule("none", "none")
        imported = [event for event in events if isinstance(event, TrialImported)]
        first = events[: num_before + 1 + (0 if num_before else len(imported))]
        self.runs.open(to_yaml(self.settings), first)
        self._paths = SweepPaths(folder / "runs")
        self._paths.root.mkdir(exist_ok=True)
        self._paths.settings.write_text(to_yaml(self.settings))
        self.tracker = Tracker(self.runs, self._paths, rule, NoPages())
        for event in first:
            self.record.apply(event)
        if num_before:
            self.tracker.resume(events[:num_before], SweepRecord.of(self.settings), self.record)
        self.tell(events[len(first) :])

    def tell(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, TrialReported):
                snapshot = Path(self._paths.snapshot(event.trial, event.report["epoch"]))
                snapshot.mkdir(parents=True, exist_ok=True)
                (snapshot / "weights").write_bytes(b"")
            if isinstance(event, PointEvaluated):
                Path(self._paths.evaluation(event.trial, event.epoch)).mkdir(parents=True, exist_ok=True)
            self.record.apply(event)
            self.tracker(event, self.record)

    def wait(self) -> None:
        """Returns once MLflow has everything."""
        is_done = threading.Event()
        self.tracker._operations.put(is_done.set)
        assert is_done.wait(60)

    def close(self) -> None:
        assert self.tracker.close(patience_s=60) == 0
        assert self.tracker.num_refused == 0


def track_events(folder: Path, events: Sequence[Event], num_before: int = 0) -> None:
    """Tells all events, and nothing after them, as of a driver that ended or was killed."""
    TrackedDriver(folder, events, num_before).close()


def _with_uri(settings: SweepSettings, tracking_uri: str) -> SweepSettings:
    tracking = settings.tracking.model_copy(update={"uri": tracking_uri})
    return settings.model_copy(update={"tracking": tracking})
