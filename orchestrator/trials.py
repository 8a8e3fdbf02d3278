"""The trials of a sweep and their points, as `orchestrator.record` keeps them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from orchestrator.events import TrialStatus
from orchestrator.pareto import dominates

AnyStatus = Literal["pending", "running", "imported"] | TrialStatus


@dataclass(frozen=True)
class Point:
    """One validated epoch of one trial.

    Attributes:
        trial: the trial's name.
        epoch: of the main phase, from 1.
        metrics: all metrics of the epoch.
        values: the objectives, minimised, in their order.
    """

    trial: str
    epoch: int
    metrics: Mapping[str, float]
    values: tuple[float, ...]


@dataclass
class Trial:
    """A trial's story so far.

    Attributes:
        sampler_state: what the sampler wrote down about it.
        front: its own non-dominated points, whatever the constraints, in order of epoch.
        last_epoch: of its last report; 0 before the first.
        num_retries: attempts that failed and were followed by another one, as far as they count.
        best: its first point with the best value of the first objective, as the paper selects its
            epoch; None before its first finite report.
        source: the sweep and the trial that it was imported from; empty for the sweep's own.
        confirms: the trial whose configuration it repeats; empty where it is of the search.
    """

    name: str
    number: int
    parameters: dict[str, Any]
    config: dict[str, Any]
    sampler_state: dict[str, Any] = field(default_factory=dict)
    status: AnyStatus = "pending"
    reason: str = ""
    details: str = ""
    started: float | None = None
    ended: float | None = None
    training_time_s: float = 0.0
    points: list[Point] = field(default_factory=list)
    front: list[Point] = field(default_factory=list)
    best: Point | None = None
    last_epoch: int = 0
    num_retries: int = 0
    source: str = ""
    confirms: str = ""

    def copy(self) -> Trial:
        copied = object.__new__(Trial)  # a sweep has thousands, and `copy.copy` takes longer
        vars(copied).update(vars(self), points=list(self.points))
        return copied

    @property
    def is_ended(self) -> bool:
        return self.status not in ("pending", "running")

    @property
    def is_unfinished(self) -> bool:
        """Whether a resume goes on with it."""
        return self.status in ("pending", "running", "interrupted")


def with_point(front: list[Point], point: Point) -> list[Point]:
    """The front after one more point; of points with equal values the earlier stays."""
    if any(p.values == point.values or dominates(p.values, point.values) for p in front):
        return front
    return [p for p in front if not dominates(point.values, p.values)] + [point]
