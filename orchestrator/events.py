"""What happens in a sweep, as values. The ledger stores them; everything else is derived from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

TrialStatus = Literal["completed", "failed", "stopped", "interrupted"]
"""How a trial ended. Early stopping makes it "stopped", which is final; the end of the sweep makes it
"interrupted", and a resume goes on with it."""
SweepStatus = Literal["completed", "interrupted", "failed"]


@dataclass(frozen=True)
class SweepStarted:
    """The first event.

    Attributes:
        name: the sweep's name.
        settings: the resolved YAML, as data.
        environment: versions, commit, hardware, and of the data a digest of each that was read.
        time: seconds since the epoch, as in every event.
        id: no other sweep has it; the sweep's MLflow runs are found by it.
        num_imported: of the `TrialImported` that follow.
    """

    name: str
    settings: dict[str, Any]
    environment: dict[str, str]
    time: float
    id: str = ""
    num_imported: int = 0


@dataclass(frozen=True)
class TrialImported:
    """A trial of an earlier sweep counts in this one; it is not run again.

    Attributes:
        trial: the name that it has here.
        source: the earlier sweep and its trial, such as digits-1/trial-0003.
        parameters: its values in this sweep's search space, by dotted name.
        config: its whole configuration.
        reports: of each validated epoch an `EpochReport`, as data.
    """

    trial: str
    source: str
    parameters: dict[str, Any]
    config: dict[str, Any]
    reports: list[dict[str, Any]]
    time: float


@dataclass(frozen=True)
class SweepResumed:
    """A new driver goes on with the sweep, and with every trial that has not ended.

    Attributes:
        settings: the resolved YAML, whose budgets may have grown.
    """

    settings: dict[str, Any]
    environment: dict[str, str]
    time: float


@dataclass(frozen=True)
class RunOpened:
    """MLflow has a run for the sweep, or for one of its trials.

    Attributes:
        trial: the trial's name; empty for the sweep's own run.
    """

    trial: str
    run_id: str
    time: float


@dataclass(frozen=True)
class TrialProposed:
    """A configuration was chosen.

    Attributes:
        trial: the trial's name.
        number: from 0.
        parameters: the values drawn, by dotted name; parameters that do not exist are absent.
        config: the whole configuration of the trial.
        sampler_state: what the sampler wrote down about it, as data.
        confirms: the trial whose configuration it repeats under a further seed, and whose number and
            parameters it has; empty where it is of the search.
    """

    trial: str
    number: int
    parameters: dict[str, Any]
    config: dict[str, Any]
    time: float
    sampler_state: dict[str, Any] = field(default_factory=dict)
    confirms: str = ""


@dataclass(frozen=True)
class TrialStarted:
    """A process took the trial up, for the first time or from where another one left it."""

    trial: str
    time: float


@dataclass(frozen=True)
class TrialReported:
    """An `EpochReport` of a trial, as data."""

    trial: str
    report: dict[str, Any]
    time: float


@dataclass(frozen=True)
class TrialWarned:
    """Something is wrong in a trial that goes on all the same.

    Attributes:
        warning: one sentence.
    """

    trial: str
    warning: str
    time: float


@dataclass(frozen=True)
class TrialRetried:
    """An attempt at a trial failed for a cause from outside; another one goes on from its checkpoint.

    Attributes:
        reason: one sentence.
        details: a traceback where there is one.
        is_counted: whether it is one of `max_retries`, which the loss of a preempted node is not.
    """

    trial: str
    reason: str
    time: float
    details: str = ""
    is_counted: bool = True


@dataclass(frozen=True)
class TrialEnded:
    """The trial's last event.

    Attributes:
        reason: one sentence; empty where it completed.
        details: a traceback where there is one.
    """

    trial: str
    status: TrialStatus
    reason: str
    time: float
    details: str = ""


@dataclass(frozen=True)
class SearchEnded:
    """No further trial is proposed by this driver: `reason` says which budget is used up.

    What follows, the confirmation of the front and the final evaluation, has no budget.
    """

    reason: str
    time: float


@dataclass(frozen=True)
class PointEvaluated:
    """The final evaluation of a point is done.

    Attributes:
        metrics: `test_NAME` of each; empty where it failed.
        reason: why it failed, one sentence.
        details: a traceback where there is one.
    """

    trial: str
    epoch: int
    metrics: dict[str, float]
    time: float
    reason: str = ""
    details: str = ""


@dataclass(frozen=True)
class SweepEnded:
    """The last event: `reason` says which budget ended the search, or what cut it short."""

    status: SweepStatus
    reason: str
    time: float


Event = (
    SweepStarted
    | TrialImported
    | SweepResumed
    | RunOpened
    | TrialProposed
    | TrialStarted
    | TrialReported
    | TrialWarned
    | TrialRetried
    | TrialEnded
    | SearchEnded
    | PointEvaluated
    | SweepEnded
)
_KINDS: dict[str, type[Event]] = {kind.__name__: kind for kind in get_args(Event)}


def to_dict(event: Event) -> dict[str, Any]:
    """The event as JSON data, with its kind under `event`. What is nested in it is not copied."""
    return {"event": type(event).__name__, **vars(event)}


def from_dict(data: dict[str, Any]) -> Event:
    """Inverts `to_dict`.

    Raises:
        ValueError: the kind is unknown or a field is missing.
    """
    fields = dict(data)
    kind = fields.pop("event", None)
    if kind not in _KINDS:
        raise ValueError(f"unknown event {kind!r}")
    try:
        return _KINDS[kind](**fields)
    except TypeError as error:
        raise ValueError(f"{kind}: {error}") from None
