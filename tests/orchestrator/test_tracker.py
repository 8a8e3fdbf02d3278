"""The tracker in front of runs that are kept in memory: what it has them hold, event by event."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sweep_events import EXAMPLES, TRIALS, ended, epochs_of_a_sweep, record_of, reports

from orchestrator.events import Event, PointEvaluated, SweepEnded
from orchestrator.mlflow_runs import MlflowRuns
from orchestrator.pages import DESCRIPTION, Links
from orchestrator.paths import SweepPaths
from orchestrator.record import SweepRecord
from orchestrator.retention import RetentionRule, wanted_snapshots
from orchestrator.settings import EmbeddingsOf, EvaluatedPoints
from orchestrator.tracking import Tracker

Epochs = list[tuple[str, float, float]]
_FOLDER = tempfile.TemporaryDirectory()
SweepPaths(Path(_FOLDER.name)).settings.touch()  # so that its disk is not taken to be away


class Runs:
    """Stands for `MlflowRuns`: keeps what it is told."""

    def __init__(self) -> None:
        self.run_ids: dict[str, str] = {}
        self.tracking_uri = "sqlite:///nowhere.db"
        self.description = ""
        self.snapshots: set[tuple[str, str]] = set()
        self.tags: dict[tuple[str, str], str] = {}
        self.metrics: dict[tuple[str, int], dict[str, float]] = {}

    def log_report(self, trial: str, epochs: Mapping[int, Mapping[str, float]], at: float) -> None:
        for epoch, values in epochs.items():
            self.metrics[trial, epoch] = dict(values)

    def describe_sweep(self, text: str) -> None:
        self.description = text

    def upload(self, trial: str, path: Path, place: str) -> None:
        assert (trial, place) not in self.snapshots
        self.snapshots.add((trial, place))

    def remove(self, trial: str, place: str) -> None:
        self.snapshots.discard((trial, place))

    def tag(self, trial: str, tags: Mapping[str, str]) -> None:
        self.tags |= {(trial, name): value for name, value in tags.items()}

    def __getattr__(self, name: str) -> Any:
        return lambda *args: None


class Sweep:
    """A record and the tracker that hears of its events."""

    def __init__(self, rule: RetentionRule) -> None:
        self.record, self.runs = record_of(), Runs()
        self.num_drawn = 0
        self.fault: Exception | None = None
        self.points_drawn: list[tuple[str, int]] = []
        runs = cast(MlflowRuns, self.runs)
        self.tracker = Tracker(runs, SweepPaths(Path(_FOLDER.name)), rule, self)

    def draw_sweep(self, into: Path, links: Links, experiment_id: str) -> None:
        """It is the tracker's `Pages` too."""
        if self.fault:
            raise self.fault
        self.num_drawn += 1
        (into / DESCRIPTION).write_text(f"drawn {self.num_drawn} times")

    def draw_point(self, trial: str, epoch: int, into: Path, links: Links) -> None:
        self.points_drawn.append((trial, epoch))

    def emit(self, event: Event) -> None:
        self.record.apply(event)
        self.tracker(event, self.record)

    def close(self) -> None:
        assert self.tracker.close(patience_s=30) == 0
        assert self.tracker.num_refused == 0


def epochs_wanted(record: SweepRecord, rule: RetentionRule) -> dict[str, list[int]]:
    """Trial that ended to the epochs whose snapshots MLflow is to have."""
    epochs: dict[str, list[int]] = {}
    for trial, epoch in sorted(wanted_snapshots(record, rule)):
        if record.trials[trial].is_ended:
            epochs.setdefault(trial, []).append(epoch)
    return epochs


@pytest.mark.parametrize("embeddings", ["front", "all"])
@pytest.mark.parametrize("evaluated", ["front", "best"])
@EXAMPLES
@given(epochs=epochs_of_a_sweep, after=st.lists(st.integers(0, 25), min_size=3, max_size=3))
def test_runs_hold_the_snapshots_of_ended_trials_that_are_wanted(
    embeddings: EmbeddingsOf, evaluated: EvaluatedPoints, epochs: Epochs, after: list[int]
) -> None:
    rule = RetentionRule(embeddings, evaluated)
    sweep = Sweep(rule)
    for place, event in enumerate(reports(epochs)):
        if not sweep.record.trials[event.trial].is_ended:
            sweep.emit(event)
        for trial, end in zip(TRIALS, after, strict=True):
            if end == place:
                sweep.emit(ended(trial))
    sweep.close()
    wanted = epochs_wanted(sweep.record, rule)
    uploaded = {(t, f"snapshots/epoch-{e:04d}") for t, numbers in wanted.items() for e in numbers}
    assert sweep.runs.snapshots == uploaded
    told = {trial: text for (trial, name), text in sweep.runs.tags.items() if name == "snapshots"}
    assert {t: text for t, text in told.items() if text} == {
        trial: ", ".join(map(str, numbers)) for trial, numbers in wanted.items()
    }


def test_a_report_is_logged_with_every_value() -> None:
    sweep = Sweep(RetentionRule())
    (event,) = reports([(TRIALS[0], 0.5, 3.0)])
    sweep.emit(event)
    sweep.close()
    assert sweep.runs.metrics == {(TRIALS[0], 1): event.report["metrics"]}


def test_pages_are_drawn_when_they_are_due() -> None:
    sweep = Sweep(RetentionRule())
    for event in reports([(TRIALS[0], 0.5, 3.0), (TRIALS[1], 0.9, 2.0), (TRIALS[2], 0.1, 9.0)]):
        sweep.emit(event)  # the first is due at once, the next ten seconds later
    sweep.close()
    assert sweep.num_drawn == 1
    assert sweep.runs.description == "drawn 1 times"


def test_a_page_that_cannot_be_drawn_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    sweep = Sweep(RetentionRule())
    sweep.fault = ValueError("no such figure")
    (event,) = reports([(TRIALS[0], 0.5, 3.0)])
    sweep.emit(event)
    sweep.close()
    assert sweep.tracker.num_undrawn == 1
    assert sweep.runs.description == "" and sweep.runs.metrics
    assert "the page of the sweep could not be drawn" in caplog.text


def test_pages_of_evaluated_points_are_drawn_at_the_end() -> None:
    sweep = Sweep(RetentionRule())
    (event,) = reports([(TRIALS[0], 0.5, 3.0)])
    for one in (
        event,
        PointEvaluated(TRIALS[0], 1, {"test_d_eff": 3.0}, 1.0),
        PointEvaluated(TRIALS[1], 1, {}, 1.0, "it failed"),
    ):
        sweep.emit(one)
        assert sweep.points_drawn == []
    sweep.emit(SweepEnded("completed", "", 2.0))
    sweep.close()
    assert sweep.points_drawn == [(TRIALS[0], 1)]
