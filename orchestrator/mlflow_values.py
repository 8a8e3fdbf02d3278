"""What MLflow holds of a sweep beside settings and metrics: names, and texts that are read back. Pure.

`orchestrator.mlflow_runs` writes it; `dashboards.tracked_events` makes the sweep's events of it again.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from orchestrator.environment import DATA_DIGEST
from orchestrator.events import Event, SearchEnded, SweepEnded, SweepResumed, SweepStarted

PARENT = "mlflow.parentRunId"
SOURCE = "orchestrator.sweep"
"""What MLflow has as the source of a sweep's own run."""
SWEEPS = f"tags.`mlflow.source.name` = '{SOURCE}'"
"""The condition, in MLflow's language, that finds the runs of sweeps."""
REPORTED = "validation_time_s"
"""The metric that every report has, and no epoch without one."""
CONFIRMS = "confirms"
"""The tag that names the trial whose configuration a run repeats under a further seed."""
DRIVERS = "drivers"
"""The tag of the sweep's run with the times of its drivers, as `write_times` has them."""
RAN = "ran"
"""The same of a trial's run with the times at which it was worked on."""
EVALUATION_FAILED = "evaluation_failed"
"""The metric that is 1 at each epoch whose final evaluation failed."""
SETTINGS = "sweep.yaml"
IMPORTED = "imported.jsonl"
"""The artifact of the sweep's run with its `TrialImported`, one a line; absent where there are none."""
RETRIES = "retries.jsonl"
"""The artifact of a trial's run with its `TrialRetried`, one a line; absent where there are none."""
NUM_RETRIES = "num_retries"
"""The tag that counts them."""
FAILURE = "failure.txt"
TRACES = "traces"
"""The artifact folder of a trial's run with its traces."""
_COMMIT = "mlflow.source.git.commit"
_DIGESTS = "data_digests"
_VERSION = "version."
_PLAIN = ("data", "data_order")
_MAX_ROWS = 100
"""Of times in a tag, which holds 5,000 characters on older servers."""

Times = tuple[float | None, ...]


class DriverTimes(NamedTuple):
    """Of a driver, in seconds since the epoch; None for what has not happened, or nobody saw."""

    started: float | None
    search_ended: float | None = None
    ended: float | None = None


class Stretch(NamedTuple):
    """From a trial's start to its end, or to None where a kill ended it or it goes on."""

    start: float | None
    end: float | None = None


def evaluation_folder(epoch: int) -> str:
    """The artifacts of a final evaluation, in the trial's run."""
    return f"evaluations/epoch-{epoch:04d}"


def driver_times(events: Iterable[Event]) -> list[DriverTimes]:
    """Of each driver of a sweep, in order."""
    times: list[DriverTimes] = []
    for event in events:
        match event:
            case SweepStarted() | SweepResumed():
                times.append(DriverTimes(event.time))
            case SearchEnded():
                times[-1] = times[-1]._replace(search_ended=event.time)
            case SweepEnded():
                times[-1] = times[-1]._replace(ended=event.time)
            case _:
                pass
    return times


def write_times(rows: Sequence[Times]) -> str:
    """Such as "1721902375.123/1721902400.200, 1721902500.000/"; of too many rows the first and the
    newest.
    """
    kept = rows if len(rows) <= _MAX_ROWS else [rows[0], *rows[-(_MAX_ROWS - 1) :]]
    return ", ".join("/".join("" if t is None else f"{t:.3f}" for t in row) for row in kept)


def read_times(text: str) -> list[Times]:
    """Inverts `write_times`, to the millisecond."""
    rows = [row.split("/") for row in text.split(", ")] if text else []
    return [tuple(float(time) if time else None for time in row) for row in rows]


def environment_tags(environment: Mapping[str, str]) -> dict[str, str]:
    """Versions, commit, hardware and data of an environment as tags."""
    facts = dict(environment)
    # What is digested has characters that no tag's name may have.
    digests = {name: facts.pop(name) for name in environment if name.startswith(DATA_DIGEST)}
    tags = {_COMMIT: facts.pop("git_commit")} if "git_commit" in facts else {}
    tags |= {name: facts.pop(name) for name in _PLAIN if name in facts}
    if digests:
        lines = [f"{digest} {name.removeprefix(DATA_DIGEST)}" for name, digest in digests.items()]
        tags[_DIGESTS] = "\n".join(lines)
    return {**tags, **{f"{_VERSION}{name}": value for name, value in facts.items()}}


def read_environment(tags: Mapping[str, str]) -> dict[str, str]:
    """Inverts `environment_tags`, in another order; other tags are left out."""
    facts = {n.removeprefix(_VERSION): value for n, value in tags.items() if n.startswith(_VERSION)}
    if _COMMIT in tags:
        facts["git_commit"] = tags[_COMMIT]
    facts |= {name: tags[name] for name in _PLAIN if name in tags}
    for line in tags.get(_DIGESTS, "").splitlines():
        digest, _, name = line.partition(" ")
        facts[f"{DATA_DIGEST}{name}"] = digest
    return facts


def finite_or_not(value: float) -> float:
    """MLflow's databases have no infinity and keep the largest number for it."""
    return math.copysign(math.inf, value) if abs(value) >= sys.float_info.max else value
