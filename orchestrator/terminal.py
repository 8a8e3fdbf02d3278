"""What a sweep shows on the terminal: live progress, the front as a table, how to open MLflow."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from orchestrator.events import Event, PointEvaluated, SweepEnded, TrialEnded, TrialWarned
from orchestrator.record import Point, SweepRecord, Trial

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
    ) -> None:
        self._console = console
        self._sweep = sweep
        self._num_trials = num_trials
        self._time_budget_s = time_budget_s
        self._clock = clock
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
        elif isinstance(event, TrialWarned):
            self._console.print(Text(f"{event.trial}: {event.warning}", style="yellow"))
        elif isinstance(event, PointEvaluated) and (event.reason or not self._console.is_terminal):
            style = "red" if event.reason else ""
            self._console.print(Text(evaluation_line(event, record), style=style))

    def _trial_line(self, record: SweepRecord, event: TrialEnded) -> str:
        trial = record.trials[event.trial]
        point = record.representative(trial)
        values = ", ".join(f"{n} {point.metrics[n]:.4g}" for n in record.objectives) if point else "-"
        return (
            f"[{record.num_ended}/{self._num_trials}] {trial.name} {event.status}: "
            f"{trial.config['head']['kind']}, {values}"
        )

    def _draw(self) -> RenderableType:
        if self._record is None:
            return Text(f"{self._sweep}: starting Ray ...")
        record = self._record
        return Group(
            Text(
                progress_line(record, self._sweep, self._num_trials, self._time_budget_s, self._clock())
            ),
            front_as_table(record, record.sorted_front()[:_MAX_ROWS]),
        )


def evaluation_line(event: PointEvaluated, record: SweepRecord) -> str:
    """One line: how many points are evaluated, and the last one's test values."""
    done = f"[{len(record.evaluations)} evaluated] {event.trial} epoch {event.epoch}"
    if event.reason:
        return f"{done}: failed: {event.reason}"
    names = [f"test_{name}" for name in record.objectives]
    values = [f"{name} {_format(event.metrics[name])}" for name in names if name in event.metrics]
    return f"{done}: {', '.join(values) or '-'}"


def progress_line(
    record: SweepRecord, sweep: str, num_trials: int, time_budget_s: float | None, now: float
) -> str:
    """One line: trials done, running, failed, time gone and left."""
    num_done = record.count("completed", "stopped")
    parts = [
        f"{sweep}: {num_done}/{num_trials} trials done",
        f"{record.count('running', 'pending')} running",
        f"{record.count('failed')} failed",
    ]
    if record.started is not None:
        parts.append(f"{format_duration(record.active_until(now))} gone")
        if record.evaluations:
            num_failed = record.num_failed_evaluations
            parts.append(f"{len(record.evaluations) - num_failed} points evaluated on the test set")
            return ", ".join([*parts, *([f"{num_failed} not"] if num_failed else [])])
        left = time_left(record, num_trials, time_budget_s, now)
        parts.append(f"about {format_duration(left)} left" if left is not None else "time left unknown")
    return ", ".join(parts)


def time_left(
    record: SweepRecord, num_trials: int, time_budget_s: float | None, now: float
) -> float | None:
    """Seconds until the last trial ends at the rate so far, or the time budget does; None at first."""
    num_ended = record.num_ended
    idle_s = 0.0 if record.started is None else now - record.started - record.active_until(now)
    first_start = min((t.started for t in list(record.trials.values()) if t.started), default=None)
    estimates = []
    if num_ended and first_start is not None:
        estimates.append((now - first_start - idle_s) / num_ended * (num_trials - num_ended))
    if time_budget_s is not None and record.started is not None:
        estimates.append(time_budget_s - record.active_until(now))
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
    for name in record.objectives:
        header = f"{name} (test)" if any(record.evaluations.values()) else name
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("trial", no_wrap=True)
    table.add_column("epoch", justify="right", no_wrap=True)
    table.add_column("configuration", min_width=24)
    for point in points:
        trial = record.trial(point.trial)
        test_metrics = record.evaluations.get((point.trial, point.epoch), {})
        table.add_row(
            *(_with_test(point, test_metrics, name) for name in record.objectives),
            point.trial,
            str(point.epoch),
            Text(_configuration(trial)),
        )
    return table


def _configuration(trial: Trial) -> str:
    """What was drawn for a trial, and where an imported one is from."""
    drawn = ", ".join(f"{_short(name)} {_format(value)}" for name, value in trial.parameters.items())
    return f"from {trial.source}: {drawn}" if trial.source else drawn


def _with_test(point: Point, test_metrics: Mapping[str, float], name: str) -> str:
    """The validation value, and the test value in brackets where there is one."""
    tested = test_metrics.get(f"test_{name}")
    return _format(point.metrics[name]) + ("" if tested is None else f" ({_format(tested)})")


def _short(name: str) -> str:
    return name.rsplit(".", 1)[-1]


def _format(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
