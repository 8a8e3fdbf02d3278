"""What a sweep shows on the terminal: live progress, the front as a table, how to open MLflow."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from orchestrator.confirmation import confirmations, repeats, unconfirmed
from orchestrator.events import (
    Event,
    PointEvaluated,
    SweepEnded,
    TrialEnded,
    TrialRetried,
    TrialWarned,
)
from orchestrator.record import SweepRecord
from orchestrator.retries import words
from orchestrator.settings import ConfirmSettings
from orchestrator.trials import Point, Trial

_MAX_ROWS = 12


class Progress:
    """The listener that shows how a sweep goes: redrawn in place on a terminal, a line for each
    ended trial elsewhere.
    """

    def __init__(
        self,
        console: Console,
        sweep: str,
        num_trials: int,
        time_budget_s: float | None,
        clock: Callable[[], float] = time.time,
        confirm: ConfirmSettings | None = None,
    ) -> None:
        self._console = console
        self._sweep = sweep
        self._num_trials = num_trials
        self._time_budget_s = time_budget_s
        self._clock = clock
        self._confirm = confirm
        self._record: SweepRecord | None = None
        self._live = Live(
            console=console, refresh_per_second=2, get_renderable=self._draw, transient=True
        )

    def start(self) -> None:
        if self._console.is_terminal:
            self._live.start()

    def stop(self) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def __call__(self, event: Event, record: SweepRecord) -> None:
        self._record = record
        if isinstance(event, SweepEnded):
            self.stop()
        elif isinstance(event, TrialEnded):
            if event.status == "failed":
                self._console.print(Text(f"{event.trial} failed: {event.reason}", style="red"))
            elif not self._console.is_terminal:
                self._console.print(Text(self._trial_line(record, event)))
        elif isinstance(event, TrialRetried):
            self._console.print(Text(retry_line(event, record), style="yellow"))
        elif isinstance(event, TrialWarned):
            self._console.print(Text(f"{event.trial}: {event.warning}", style="yellow"))
        elif isinstance(event, PointEvaluated) and (event.reason or not self._console.is_terminal):
            style = "red" if event.reason else ""
            self._console.print(Text(evaluation_line(event, record), style=style))

    def _trial_line(self, record: SweepRecord, event: TrialEnded) -> str:
        trial = record.trial(event.trial)
        point = record.front.representative(trial)
        values = (
            ", ".join(f"{n} {point.metrics[n]:.4g}" for n in record.front.objectives) if point else "-"
        )
        done = f"{record.num_ended}/{self._num_trials}"
        if trial.confirms:
            done = f"{_confirming_done(record, self._confirm)} confirming"
        return f"[{done}] {trial.name} {event.status}: {trial.config['head']['kind']}, {values}"

    def _draw(self) -> RenderableType:
        if self._record is None:
            return Text(f"{self._sweep}: starting Ray ...")
        record = self._record
        return Group(
            Text(
                progress_line(
                    record,
                    self._sweep,
                    self._num_trials,
                    self._time_budget_s,
                    self._clock(),
                    self._confirm,
                )
            ),
            front_as_table(record, record.front.sorted()[:_MAX_ROWS]),
        )


def retry_line(event: TrialRetried, record: SweepRecord) -> str:
    """One line: why an attempt failed, and that another one follows."""
    trial = record.trial(event.trial)
    count = words(event.is_counted, trial.num_retries)
    return f"{event.trial}: {event.reason}; it goes on from its checkpoint ({count})"


def evaluation_line(event: PointEvaluated, record: SweepRecord) -> str:
    """One line: how many points are evaluated, and the last one's test values."""
    done = f"[{len(record.evaluations)} evaluated] {event.trial} epoch {event.epoch}"
    if event.reason:
        return f"{done}: failed: {event.reason}"
    names = [f"test_{name}" for name in record.front.objectives]
    values = [f"{name} {_format(event.metrics[name])}" for name in names if name in event.metrics]
    return f"{done}: {', '.join(values) or '-'}"


def progress_line(
    record: SweepRecord,
    sweep: str,
    num_trials: int,
    time_budget_s: float | None,
    now: float,
    confirm: ConfirmSettings | None = None,
) -> str:
    """One line: trials done, running, failed, time gone and left, of the phase that the sweep is in."""
    num_done = record.count("completed", "stopped")
    parts = [f"{sweep}: {num_done}/{num_trials} trials done"]
    if record.search_ended is not None and unconfirmed(record, confirm):
        return ", ".join([*parts, *_confirming_parts(record, confirm, now)])
    parts += [f"{record.count('running', 'pending')} running", f"{record.count('failed')} failed"]
    if record.started is not None:
        parts.append(f"{format_duration(record.active_until(now))} gone")
        if record.search_ended is not None and record.evaluations:
            num_failed = record.num_failed_evaluations
            parts.append(f"{len(record.evaluations) - num_failed} points evaluated on the test set")
            return ", ".join([*parts, *([f"{num_failed} not"] if num_failed else [])])
        parts.append(_left(time_left(record, num_trials, time_budget_s, now)))
    return ", ".join(parts)


def _left(seconds: float | None) -> str:
    return "time left unknown" if seconds is None else f"about {format_duration(seconds)} left"


def _confirming_parts(record: SweepRecord, confirm: ConfirmSettings | None, now: float) -> list[str]:
    statuses = [trial.status for trial in list(record.confirming.values())]
    return [
        f"confirming its front: {_confirming_done(record, confirm)} trials done",
        f"{statuses.count('running')} running",
        f"{statuses.count('failed')} failed",
        f"{format_duration(record.active_until(now))} gone",
        _left(confirming_time_left(record, confirm, now)),
    ]


def _confirming_done(record: SweepRecord, confirm: ConfirmSettings | None) -> str:
    num_wanted = len(repeats(record, confirm))
    return f"{num_wanted - len(unconfirmed(record, confirm))}/{num_wanted}"


def confirming_time_left(
    record: SweepRecord, confirm: ConfirmSettings | None, now: float
) -> float | None:
    """Seconds until the front is confirmed at the rate since the search ended; None at first."""
    began = record.search_ended
    assert began is not None
    ended = [trial.ended for trial in list(record.confirming.values()) if not trial.is_unfinished]
    num_ended = sum(time is not None and time >= began for time in ended)
    return (now - began) / num_ended * len(unconfirmed(record, confirm)) if num_ended else None


def time_left(
    record: SweepRecord, num_trials: int, time_budget_s: float | None, now: float
) -> float | None:
    """Seconds until the last trial ends at the rate so far, or the time budget does; None at first."""
    num_ended = record.num_ended
    idle_s = 0.0 if record.started is None else now - record.started - record.searched_until(now)
    first_start = min((t.started for t in list(record.trials.values()) if t.started), default=None)
    estimates = []
    if num_ended and first_start is not None:
        estimates.append((now - first_start - idle_s) / num_ended * (num_trials - num_ended))
    if time_budget_s is not None and record.started is not None:
        estimates.append(time_budget_s - record.searched_until(now))
    return max(0.0, min(estimates)) if estimates else None


def format_duration(seconds: float) -> str:
    """Such as 45 s, 3 min 20 s, 2 h 05 min."""
    whole = round(max(0.0, seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def front_as_table(record: SweepRecord, points: list[Point]) -> Table:
    """The front's points with their configurations; those of the test in brackets."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in record.front.objectives:
        header = f"{name} (test)" if any(record.evaluations.values()) else name
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("trial", no_wrap=True)
    table.add_column("epoch", justify="right", no_wrap=True)
    table.add_column("configuration", min_width=24)
    for point in points:
        trial = record.trial(point.trial)
        test_metrics = record.evaluations.get((point.trial, point.epoch), {})
        table.add_row(
            *(_with_test(point, test_metrics, name) for name in record.front.objectives),
            point.trial,
            str(point.epoch),
            Text(_configuration(trial)),
        )
    return table


def _configuration(trial: Trial) -> str:
    """What was drawn for a trial, and where an imported one is from."""
    drawn = ", ".join(f"{_short(name)} {_format(value)}" for name, value in trial.parameters.items())
    return f"from {trial.source}: {drawn}" if trial.source else drawn


def confirmed_as_table(record: SweepRecord) -> Table | None:
    """What further seeds say of the front's points, in its order; None where they say nothing."""
    found = confirmations(record)
    if not found:
        return None
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in record.front.objectives:
        table.add_column(name, justify="right", no_wrap=True)
        table.add_column("mean ± std", justify="right", no_wrap=True)
    for name in ("seeds", "front", "trial", "epoch"):
        table.add_column(name, justify="left" if name == "trial" else "right", no_wrap=True)
    for point in record.front.sorted():
        confirmation = found.get((point.trial, point.epoch))
        if confirmation is None:
            continue
        cells: list[str] = []
        for name in record.front.objectives:
            mean, deviation = confirmation.means[name], confirmation.deviations[name]
            cells += [_format(point.metrics[name]), with_deviation(mean, deviation)]
        probability = f"{100 * confirmation.front_probability:.0f} %"
        cells += [str(confirmation.num_seeds), probability, point.trial, str(point.epoch)]
        table.add_row(*cells)
    return table


def with_deviation(mean: float, deviation: float) -> str:
    """Such as 0.982 ± 0.004: the deviation to one digit, or two below 2, the mean to the same place."""
    if math.isnan(deviation):
        return _format(mean)
    if deviation <= 0:
        return f"{_format(mean)} ± 0"
    place = -math.floor(math.log10(deviation)) + (f"{deviation:e}"[0] == "1")
    num_decimals = max(0, place)
    return f"{mean:.{num_decimals}f} ± {deviation:.{num_decimals}f}"


def _with_test(point: Point, test_metrics: Mapping[str, float], name: str) -> str:
    """The validation value, and the test value in brackets where there is one."""
    tested = test_metrics.get(f"test_{name}")
    return _format(point.metrics[name]) + ("" if tested is None else f" ({_format(tested)})")


def _short(name: str) -> str:
    return name.rsplit(".", 1)[-1]


def _format(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
