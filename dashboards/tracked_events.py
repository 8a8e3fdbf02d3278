"""What MLflow has of a sweep as the sweep's events, in order, as if its ledger had been read. Pure.

What no page shows is lost: a sampler's state, and why the search or an earlier driver ended. Times are
those of MLflow, to the millisecond.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar, get_args

from pydantic import ValidationError

from dashboards.sweep_results import TEST
from dashboards.tracked_runs import ChildRun, Histories, ParentRun
from orchestrator.compact import CompactMetrics
from orchestrator.events import (
    Event,
    PointEvaluated,
    RunOpened,
    SearchEnded,
    SweepEnded,
    SweepResumed,
    SweepStarted,
    SweepStatus,
    TrialEnded,
    TrialImported,
    TrialProposed,
    TrialReported,
    TrialRetried,
    TrialStarted,
    TrialStatus,
    TrialWarned,
    from_dict,
)
from orchestrator.mlflow_values import (
    CONFIRMS,
    EVALUATION_FAILED,
    RAN,
    REPORTED,
    Stretch,
    read_environment,
    read_times,
)
from orchestrator.search_space import Value, is_active, order, setting_names, to_trial_config
from orchestrator.settings import SweepSettings
from orchestrator.trial_settings import from_text
from trainables.reports import METRICS, TRAINING_METRICS

Told = TypeVar("Told", TrialImported, TrialRetried)
_NUMBER = re.compile(r"trial-(\d+)")
_PLACES = (
    SweepStarted,
    TrialImported,
    SweepResumed,
    TrialProposed,
    RunOpened,
    TrialStarted,
    TrialWarned,
    TrialReported,
    TrialRetried,
    TrialEnded,
    SearchEnded,
    PointEvaluated,
    SweepEnded,
)
"""The order of events of one millisecond; the first two kinds come before everything."""
_PLACE_OF = {kind: place for place, kind in enumerate(_PLACES)}
_NUM_FIRST = 2

Failures = Mapping[int, tuple[str, str]]
"""Epoch to reason and details of a final evaluation that failed."""


def in_order(events: Iterable[Event]) -> list[Event]:
    """As they happened; those of a trial, which are given in their order, stay in it."""
    return sorted(events, key=moment)


def moment(event: Event) -> tuple[int, int]:
    """What events are ordered by."""
    place = _PLACE_OF[type(event)]
    return (0 if place < _NUM_FIRST else round(event.time * 1000), place)


def sweep_events(
    parent: ParentRun, settings: SweepSettings, imported: Sequence[TrialImported]
) -> list[Event]:
    """The events that are of no trial of the sweep's own.

    Args:
        parent: the sweep's own run.
        settings: those of its latest driver.
        imported: the trials that it took from earlier sweeps.
    """
    data, environment = settings.model_dump(mode="json"), read_environment(parent.tags)
    drivers = parent.drivers
    begun = drivers[0].started or parent.started
    identity = parent.tags.get("sweep_id", "")
    events: list[Event] = [
        SweepStarted(parent.name, data, environment, begun, identity, len(imported)),
        *[replace(event, time=begun) for event in imported],
        RunOpened("", parent.run_id, begun),
    ]
    for place, driver in enumerate(drivers):
        if place and driver.started is not None:
            events.append(SweepResumed(data, environment, driver.started))
        if driver.search_ended is not None:
            events.append(SearchEnded("", driver.search_ended))
        if driver.ended is not None and place < len(drivers) - 1:
            events.append(SweepEnded("interrupted", "", driver.ended))
    if parent.status in get_args(SweepStatus):
        end = drivers[-1].ended or parent.ended or begun
        status: Any = parent.status
        events.append(SweepEnded(status, parent.tags.get("reason", ""), end))
    return events


def read_events(text: str, kind: type[Told]) -> list[Told]:
    """The events of an artifact that has one a line, such as what a sweep imported."""
    events = [from_dict(json.loads(line)) for line in text.splitlines()]
    return [event for event in events if isinstance(event, kind)]


def trial_events(
    child: ChildRun,
    settings: SweepSettings,
    histories: Histories,
    details: str = "",
    failures: Failures | None = None,
    retries: Sequence[TrialRetried] = (),
) -> list[Event]:
    """The events of a trial of the sweep's own, in order; none before its settings are written.

    Args:
        child: its run.
        settings: the sweep's.
        histories: of the run's metrics.
        details: the traceback of a trial that failed.
        failures: of its final evaluations.
        retries: its attempts that were followed by another one.
    """
    if "head.kind" not in child.params:
        return []
    events: list[Event] = [
        _proposed(child, settings),
        RunOpened(child.trial, child.run_id, child.proposed),
        *_worked(child, details, retries),
        *_reports(child.trial, settings, histories),
        *_evaluations(child.trial, histories, failures or {}),
    ]
    return in_order(events)


def _proposed(child: ChildRun, settings: SweepSettings) -> TrialProposed:
    values, space = from_text(child.params), settings.search_space
    parameters: dict[str, Value] = {}
    for name in order(space):
        if name in values and is_active(space[name], parameters):
            parameters[name] = values[name]
    confirms = child.tags.get(CONFIRMS, "")
    number = _NUMBER.match(confirms or child.trial)
    return TrialProposed(
        child.trial,
        int(number[1]) if number else 0,
        parameters,
        _config(settings, values),
        child.proposed,
        confirms=confirms,
    )


def _config(settings: SweepSettings, values: Mapping[str, Value]) -> dict[str, Any]:
    """The trial's configuration; what MLflow lacks of it, since it has no effect, is the sweep's."""
    known = {name: values[name] for name in setting_names() if name in values}
    try:
        return to_trial_config(settings.trial, known).model_dump()
    except ValidationError:  # another version's, whose settings went together then
        return _grouped({**settings.trial.model_dump(), **known})


def _grouped(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted names as groups in groups."""
    grouped: dict[str, Any] = {}
    for name, value in values.items():
        *groups, last = name.split(".")
        target = grouped
        for group in groups:
            target = target.setdefault(group, {})
        target[last] = dict(value) if isinstance(value, Mapping) else value
    return grouped


def _worked(child: ChildRun, details: str, retries: Sequence[TrialRetried]) -> Iterator[Event]:
    """Starts, ends, and what was wrong in between."""
    yield from retries
    retried = {round(retry.time, 3) for retry in retries}
    trial, status = child.trial, child.tags.get("status", "pending")
    stretches = [Stretch(*row) for row in read_times(child.tags.get(RAN, ""))]
    if not stretches and status != "pending" and RAN not in child.tags:
        stretches = [Stretch(child.proposed)]  # tracked before there were such times
    if warning := child.tags.get("warning"):
        begun = stretches[0].start if stretches else None
        yield TrialWarned(trial, warning, child.proposed if begun is None else begun)
    has_ended = status in get_args(TrialStatus) and child.ended is not None
    for place, stretch in enumerate(stretches):
        if stretch.start is not None:
            yield TrialStarted(trial, stretch.start)
        is_last_end = has_ended and place == len(stretches) - 1 and stretch.end == child.ended
        if stretch.end is not None and not is_last_end and stretch.end not in retried:
            yield TrialEnded(trial, "interrupted", "", stretch.end)
    if has_ended:
        assert child.ended is not None
        ended_as: Any = status
        yield TrialEnded(trial, ended_as, child.tags.get("reason", ""), child.ended, details)


def _reports(trial: str, settings: SweepSettings, histories: Histories) -> Iterator[TrialReported]:
    """One for each validated epoch whose objectives are all there."""
    names = [name for name in METRICS if name in histories]
    trained = [name for name in TRAINING_METRICS if name in histories]
    previous = 0
    for epoch, (at, _) in sorted(histories.get(REPORTED, {}).items()):
        metrics = {name: histories[name][epoch][1] for name in names if epoch in histories[name]}
        if not settings.objectives.keys() <= metrics.keys():
            continue
        training = {
            e: {name: histories[name][e][1] for name in trained if e in histories[name]}
            for e in range(previous + 1, epoch + 1)
            if e in histories.get("epoch_time_s", {})
        }
        report = {
            "epoch": epoch,
            "metrics": CompactMetrics(metrics),
            "training": {e: CompactMetrics(values) for e, values in training.items()},
        }
        yield TrialReported(trial, report, at)
        previous = epoch


def _evaluations(trial: str, histories: Histories, failures: Failures) -> Iterator[PointEvaluated]:
    tested = {name: history for name, history in histories.items() if name.startswith(TEST)}
    for epoch in sorted({epoch for history in tested.values() for epoch in history}):
        written = {name: history[epoch] for name, history in tested.items() if epoch in history}
        metrics = {name: value for name, (_, value) in written.items()}
        yield PointEvaluated(trial, epoch, metrics, max(at for at, _ in written.values()))
    for epoch, (at, _) in histories.get(EVALUATION_FAILED, {}).items():
        yield PointEvaluated(trial, epoch, {}, at, *failures.get(epoch, ("it failed", "")))
