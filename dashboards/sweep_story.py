"""What the pages tell of a sweep: its record, and when what of it happened. Pure; a fold over events.

The events come from the ledger of a running sweep (`dashboards.live_pages`) or out of MLflow
(`dashboards.tracked_events`); the pages are the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from typing import NamedTuple

from orchestrator.events import (
    Event,
    PointEvaluated,
    SweepEnded,
    SweepResumed,
    SweepStarted,
    TrialEnded,
    TrialImported,
    TrialReported,
    TrialRetried,
    TrialStarted,
    TrialWarned,
)
from orchestrator.record import SweepRecord
from orchestrator.settings import SweepSettings
from orchestrator.settings_text import from_data


class Arrival(NamedTuple):
    """A report: when it came, whose it is, and of which epoch."""

    time: float
    trial: str
    epoch: int


class Span(NamedTuple):
    """Time that a trial was worked on; `end` is None while it is."""

    trial: str
    start: float
    end: float | None


class SweepStory:
    """A sweep as the pages tell it.

    Args:
        events: in order; more may follow with `apply`.

    Attributes:
        name: the sweep's.
        settings: those it runs with now.
        environment: versions, commit and hardware by name.
        record: the state of the sweep.
        arrivals: the reports of own trials, those that confirm included, in order.
        spans: when each own trial was worked on, in order of their starts.
        warnings: of trials, by name.
        retries: attempts at trials that failed and were followed by another one, in order.
        failed_evaluations: why the final evaluation of a point, by trial and epoch, failed.
        latest: the time of the last event.
    """

    settings: SweepSettings
    record: SweepRecord

    def __init__(self, events: Iterable[Event]) -> None:
        self.name = ""
        self.environment: dict[str, str] = {}
        self.arrivals: list[Arrival] = []
        self.spans: list[Span] = []
        self.warnings: dict[str, str] = {}
        self.retries: list[TrialRetried] = []
        self.failed_evaluations: dict[tuple[str, int], str] = {}
        self.latest = 0.0
        self._open: dict[str, int] = {}
        for event in events:
            self.apply(event)

    def copy(self) -> SweepStory:
        """A story whose record later events leave as it is, so that another thread can read that."""
        copied = copy(self)
        copied.record = self.record.copy()
        return copied

    def apply(self, event: Event) -> None:
        """Takes in the next event; the first is the sweep's start."""
        match event:
            case SweepStarted():
                self.name, self.environment = event.name, event.environment
                self.settings = from_data(event.settings)
                self.record = SweepRecord.of(self.settings)
            case SweepResumed():
                self._close_spans(self.latest)
                self.settings = from_data(event.settings)
                self.environment = event.environment
                self.record.set_pick(self.settings.pick)
            case TrialStarted():
                self._close_span(event.trial, self.latest)
                self._open[event.trial] = len(self.spans)
                self.spans.append(Span(event.trial, event.time, None))
            case TrialReported():
                self.arrivals.append(Arrival(event.time, event.trial, int(event.report["epoch"])))
            case TrialWarned():
                self.warnings[event.trial] = event.warning
            case TrialRetried():
                self._close_span(event.trial, event.time)
                self.retries.append(event)
            case TrialEnded():
                self._close_span(event.trial, event.time)
            case PointEvaluated():
                self.failed_evaluations.pop((event.trial, event.epoch), None)
                if not event.metrics:
                    self.failed_evaluations[event.trial, event.epoch] = event.reason
            case SweepEnded():
                self._close_spans(event.time)
            case _:
                pass
        self.record.apply(event)
        if not isinstance(event, TrialImported):
            self.latest = max(self.latest, event.time)

    def _close_spans(self, at: float) -> None:
        for trial in list(self._open):
            self._close_span(trial, at)

    def _close_span(self, trial: str, at: float) -> None:
        if (place := self._open.pop(trial, None)) is not None:
            self.spans[place] = self.spans[place]._replace(end=at)
