"""Which one point of a front to use, by the rule that a sweep's settings name. Pure.

`knee`, `best METRIC subject to CONSTRAINT and CONSTRAINT`, or `lexicographic METRIC within TOLERANCE,
METRIC`. Read by `orchestrator.settings`, applied by `orchestrator.record`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from orchestrator.constraints import Constraint, Constraints, Metrics, parse_constraint
from orchestrator.settings_sentences import nearest
from trainables.reports import METRIC_NAMES_IN_SHORT, METRICS, Direction

_FORMS = (
    "knee, best METRIC, best METRIC subject to CONSTRAINT and CONSTRAINT, "
    "or lexicographic METRIC within TOLERANCE, METRIC"
)
_BEST = re.compile(r"best\s+(?P<metric>\S+)(?:\s+subject\s+to\s+(?P<constraints>.+))?")
_LEVEL = re.compile(r"(?P<metric>\S+?)(?:\s+within\s+(?P<number>[0-9.eE+-]+)\s*(?P<percent>%)?)?")
_ROUNDING = 1e-12


class Candidate(Protocol):
    """A point of a front: all its metrics, and its objectives minimised."""

    @property
    def metrics(self) -> Metrics: ...
    @property
    def values(self) -> tuple[float, ...]: ...


C = TypeVar("C", bound=Candidate)


@dataclass(frozen=True)
class Knee:
    """The point that bulges most towards the best values of all objectives, each scaled to the
    front's range: the farthest from the plane through the front's ends (Das 1999, "On characterizing
    the knee of the Pareto curve based on normal-boundary intersection").
    """


@dataclass(frozen=True)
class Best:
    """The best of one metric, among the points that hold the constraints."""

    metric: str
    constraints: tuple[Constraint, ...] = ()


@dataclass(frozen=True)
class Level:
    """One metric of a lexicographic order.

    Attributes:
        tolerance: so much worse than the best is as good.
        is_relative: whether that is a share of the best.
    """

    metric: str
    tolerance: float = 0.0
    is_relative: bool = False


@dataclass(frozen=True)
class Lexicographic:
    """The best of the first metric, among equals within its tolerance of the second, and so on."""

    levels: tuple[Level, ...]


PickRule = Knee | Best | Lexicographic


def parse_pick(text: str) -> PickRule:
    """Reads a rule.

    Raises:
        ValueError: it is none; the message says why and what to write.
    """
    words = " ".join(text.split())
    if words == "knee":
        return Knee()
    if match := _BEST.fullmatch(words):
        parts = re.split(r"\s+and\s+", match["constraints"]) if match["constraints"] else []
        return Best(_metric(match["metric"]), tuple(parse_constraint(part) for part in parts))
    if words.startswith("lexicographic "):
        parts = words.removeprefix("lexicographic ").split(",")
        return Lexicographic(tuple(_level(part.strip()) for part in parts))
    raise ValueError(f"a pick is {_FORMS}; got {text!r}")


def _metric(name: str) -> str:
    if name not in METRICS:
        raise ValueError(f"no metric is called {name!r}{nearest(name, METRICS, METRIC_NAMES_IN_SHORT)}")
    return name


def _level(text: str) -> Level:
    match = _LEVEL.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not METRIC, METRIC within 0.01 or METRIC within 1 %")
    try:
        tolerance = float(match["number"] or 0)
    except ValueError:
        raise ValueError(f"the tolerance of {text!r} is not a number") from None
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"the tolerance of {text!r} is not a finite number from 0 on")
    is_relative = match["percent"] is not None
    return Level(_metric(match["metric"]), tolerance / 100 if is_relative else tolerance, is_relative)


def needs_baseline(rule: PickRule) -> bool:
    """Whether the rule names the baseline."""
    return isinstance(rule, Best) and Constraints(rule.constraints).need_baseline


def choose(
    rule: PickRule,
    front: Sequence[C],
    objectives: Mapping[str, Direction],
    baseline: Metrics | None = None,
) -> C | None:
    """The point of a front that the rule names; the first of equals, None where there is none."""
    match rule:
        case Knee():
            return _knee(front)
        case Best(metric, constraints):
            all_constraints = Constraints(constraints)
            if baseline is None and all_constraints.need_baseline:
                return None
            held = [p for p in front if all_constraints.violation(p.metrics, baseline) <= 0]
            return min(held, key=lambda p: _minimised(p, metric, objectives), default=None)
        case Lexicographic(levels):
            kept = list(front)
            for level in levels:
                kept = _within(level, kept, objectives)
            return kept[0] if kept else None


def _knee(front: Sequence[C]) -> C | None:
    if not front:
        return None
    values = np.asarray([point.values for point in front])
    low, high = values.min(axis=0), values.max(axis=0)
    scaled = (values - low) / np.where(high > low, high - low, 1.0)
    return front[int(np.argmin(scaled.sum(axis=1)))]


def _within(level: Level, points: Sequence[C], objectives: Mapping[str, Direction]) -> list[C]:
    """The points that are worse than the best by no more than the tolerance, best first."""
    values = [_minimised(point, level.metric, objectives) for point in points]
    best = min(values, default=math.inf)
    if not math.isfinite(best):
        return list(points)
    limit = best + level.tolerance * (abs(best) if level.is_relative else 1.0) + _ROUNDING * abs(best)
    ordered = sorted(zip(values, points, strict=True), key=lambda pair: pair[0])
    return [point for value, point in ordered if value <= limit]


def _minimised(point: Candidate, metric: str, objectives: Mapping[str, Direction]) -> float:
    value = point.metrics.get(metric, math.nan)
    if math.isnan(value):
        return math.inf
    return -value if objectives.get(metric, METRICS[metric].direction) == "max" else value
