"""A sweep that tests kill and resume, and how to tell its story and watch it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
from sweep_runs import SweepRun

from orchestrator.events import Event, PointEvaluated, TrialEnded, TrialProposed, TrialReported
from orchestrator.ledger import decode
from orchestrator.paths import SweepPaths
from orchestrator.record import SweepRecord
from orchestrator.settings import SweepSettings, load_settings

RESUMABLE = Path(__file__).parent / "resumable.yaml"


def num_lines(ledger: Path, *kinds: str) -> int:
    """Events in a ledger: all, or of these kinds."""
    lines = ledger.read_bytes().splitlines() if ledger.exists() else []
    return sum(not kinds or any(f'"{kind}"'.encode() in line[:60] for kind in kinds) for line in lines)


def next_report_s(sweep: SweepRun, since: float) -> float:
    """Seconds from a moment to the first report after it."""
    reported = [event.time for event in sweep.events if isinstance(event, TrialReported)]
    return min(moment for moment in reported if moment > since) - since


def is_dead(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@dataclass
class DiskWatch:
    """What a sweep has on disk while it runs: looked at as often as possible.

    Attributes:
        unwanted: snapshots that were there and neither on the front nor their trials' next to be
            reported, when they were seen.
        seen: all snapshots that were ever there.
        num_snapshots: with the size of the front at the same time, at each look.
        num_checkpoints: with the number of trials that ran at the same time, at each look.
    """

    paths: SweepPaths
    unwanted: set[tuple[str, int]] = field(default_factory=set)
    seen: set[tuple[str, int]] = field(default_factory=set)
    num_snapshots: list[tuple[int, int]] = field(default_factory=list)
    num_checkpoints: list[tuple[int, int]] = field(default_factory=list)

    def __call__(self, driver: psutil.Process) -> None:
        while not is_dead(driver):
            if num_lines(self.paths.ledger):
                self._look()
            time.sleep(0.1)

    def _look(self) -> None:
        before = self._events()
        found = {
            (folder.parent.name, int(folder.name.removeprefix("epoch-")))
            for folder in self.paths.root.glob("snapshots/*/epoch-*")
        }
        checkpoints = list(self.paths.root.glob("checkpoints/*/state.pt"))
        after = self._events()
        # What was on the front just before the last event is being removed.
        records = [self._record(after[:n]) for n in range(max(1, _last_change(before)), len(after) + 1)]
        fronts = [{(p.trial, p.epoch) for p in record.front} for record in records]
        known: dict[str, int] = {}
        for record in records:  # a look may take so long that a trial begins and reports meanwhile
            for trial in record.trials.values():
                if not trial.is_ended:
                    known.setdefault(trial.name, trial.last_epoch)
        unreported = {(name, epoch) for name, epoch in found if name in known and epoch > known[name]}
        self.unwanted |= found - set().union(*fronts) - unreported
        self.seen |= found
        self.num_snapshots.append((len(found), max(map(len, fronts))))
        self.num_checkpoints.append(
            (len(checkpoints), max(record.count("pending", "running") for record in records))
        )

    def _events(self) -> list[Event]:
        lines = self.paths.ledger.read_bytes().splitlines(keepends=True)
        return [decode(line) for line in lines if line.endswith(b"\n")]

    def _record(self, events: list[Event]) -> SweepRecord:
        return SweepRecord.of(self._settings, events)

    @cached_property
    def _settings(self) -> SweepSettings:
        return load_settings(self.paths.settings)


def _last_change(events: list[Event]) -> int:
    """The number of events before the last one that may move the front or end a trial."""
    changes = [i for i, event in enumerate(events) if isinstance(event, (TrialReported, TrialEnded))]
    return changes[-1] if changes else len(events)


def stories(sweep: SweepRun) -> dict[str, Any]:
    """What each trial was, reported and came to, without times."""
    told: dict[str, Any] = {}
    for event in sweep.events:
        match event:
            case TrialProposed():
                assert event.trial not in told
                told[event.trial] = [event.config]
            case TrialReported():
                metrics = {n: v for n, v in event.report["metrics"].items() if not n.endswith("_time_s")}
                told[event.trial].append((event.report["epoch"], metrics))
            case TrialEnded() if event.status != "interrupted":
                told[event.trial].append((event.status, event.reason))
            case PointEvaluated():
                key = f"{event.trial}, epoch {event.epoch}, on the test set"
                assert key not in told
                told[key] = event.metrics
            case _:
                pass
    return told
