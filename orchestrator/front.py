"""The any-time front: over all points of a sweep, not over last results; constraints come before
dominance. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from orchestrator.constraints import Constraints, Expression
from orchestrator.pareto import hypervolume, minimised
from orchestrator.pick import PickRule, choose, needs_baseline, parse_pick
from orchestrator.settings import SweepSettings
from orchestrator.trials import Point, Trial, with_point
from trainables.reports import Direction


class Front:
    """The points of a sweep that are worth having, and what says so.

    Of the feasible points the non-dominated ones; while none is feasible the one that is nearest to
    it. Constraints, reference and pick may name the baseline, which is known only later: until then
    points are judged by what can be judged.

    Args:
        objectives: metric to direction.
        reference: per objective, the hypervolume's reference in the metric's own direction.
        constraints: what a point must hold to count.
        pick: the rule that names one point of the front, as `orchestrator.pick` reads it.

    Attributes:
        points: of the front, in no order.
        unconstrained: the non-dominated points, whatever the constraints.
        candidates: the points that may come onto the front once the baseline is known; empty then.
        baseline: the point that is named so; None until it is known.
        names_baseline: whether constraints, reference or pick do.
        reference: numbers alone; None until all of it is known.
    """

    def __init__(
        self,
        objectives: Mapping[str, Direction],
        reference: Mapping[str, float | Expression],
        constraints: Constraints | None = None,
        pick: str | None = None,
    ) -> None:
        self.objectives = dict(objectives)
        self.constraints = constraints or Constraints()
        self.baseline: Point | None = None
        self._wanted_reference = dict(reference)
        self.set_pick(pick)
        self.points: list[Point] = []
        self.unconstrained: list[Point] = []
        self.candidates: list[Point] = []
        self._violation = math.inf
        self._set_reference()

    @staticmethod
    def of(settings: SweepSettings) -> Front:
        """The front of a sweep before its first point."""
        constraints = Constraints.of(settings.constraints)
        return Front(settings.objectives, settings.reference(), constraints, settings.pick)

    def __iter__(self) -> Iterator[Point]:
        return iter(self.points)

    def __len__(self) -> int:
        return len(self.points)

    def sorted(self) -> list[Point]:
        """The points along the first objective, best first."""
        return sorted(self.points, key=lambda point: point.values)

    def add(self, point: Point) -> None:
        """Takes in a point; the lists that it changes are new ones."""
        if not self.constraints:
            self.points = self.unconstrained = with_point(self.points, point)
            return
        self.unconstrained = with_point(self.unconstrained, point)
        if self._waits:
            self.candidates = self._with_candidate(point)
        self._judge(point)

    def set_pick(self, pick: str | None) -> None:
        """Puts a rule in the place of the present one, as a resume may."""
        self.pick = pick or ""
        self._pick: PickRule | None = parse_pick(pick) if pick else None
        self.names_baseline = (
            self.constraints.need_baseline
            or any(isinstance(value, Expression) for value in self._wanted_reference.values())
            or (self._pick is not None and needs_baseline(self._pick))
        )
        if not self.names_baseline:
            self.baseline = None

    def set_baseline(self, baseline: Point | None) -> None:
        """Judges everything that waited for it; None is a baseline without a finite point."""
        self.baseline = baseline
        self._set_reference()
        if baseline is not None and self.constraints.need_baseline:
            waiting = self.candidates
            self.candidates, self.points, self._violation = [], [], math.inf
            for point in waiting:
                self._judge(point)

    def violation(self, metrics: Mapping[str, float]) -> float:
        """By how much a point breaks the constraints; 0 where it holds all that can be judged yet."""
        return self.constraints.violation(metrics, self._baseline_metrics)

    def excesses(self, metrics: Mapping[str, float]) -> list[float]:
        """Of each constraint; 0 or less where the point holds it."""
        return self.constraints.excesses(metrics, self._baseline_metrics)

    @property
    def is_feasible(self) -> bool:
        """Whether the points hold the constraints; so does an empty front."""
        return not self.points or not self.constraints or self._violation == 0

    @property
    def picked(self) -> Point | None:
        """The point that the settings' rule names; None where there is none."""
        if self._pick is None or not self.is_feasible:
            return None
        return choose(self._pick, self.sorted(), self.objectives, self._baseline_metrics)

    @property
    def has_hypervolume(self) -> bool:
        """Whether the reference is known and all constraints can be judged."""
        return self.reference is not None and not self._waits

    def hypervolume(self) -> float:
        """Of the feasible front as it is now; 0 while the reference is not known."""
        if self.reference is None or not self.is_feasible:
            return 0.0
        return hypervolume([point.values for point in self.points], self._reference)

    def representative(self, trial: Trial) -> Point | None:
        """The point that stands for a trial where only one can: of the feasible ones, or of those
        nearest to it, the largest hypervolume by itself.

        Not the largest contribution to the trial's own front: that would prefer a poor point without
        neighbours to a good one among several. None before the trial's first finite report.
        """
        points = trial.front
        if self.constraints:
            violations = [self.violation(point.metrics) for point in trial.points]
            least = min(violations, default=0.0)
            points = [p for p, v in zip(trial.points, violations, strict=True) if v == least]
        if self.reference is None:
            return min(points, key=lambda point: point.values[0], default=None)
        volumes = [hypervolume([point.values], self._reference) for point in points]
        return points[int(np.argmax(volumes))] if volumes else None

    @property
    def _waits(self) -> bool:
        """Whether some constraint cannot be judged yet."""
        return self.constraints.need_baseline and self.baseline is None

    @property
    def _baseline_metrics(self) -> Mapping[str, float] | None:
        return None if self.baseline is None else self.baseline.metrics

    def _judge(self, point: Point) -> None:
        """Constraints before dominance (Deb et al. 2002, NSGA-II, section VI)."""
        violation = self.violation(point.metrics)
        if violation < self._violation or not self.points:
            self.points, self._violation = [point], violation
        elif violation == self._violation == 0:
            self.points = with_point(self.points, point)

    def _with_candidate(self, point: Point) -> list[Point]:
        """Those that are non-dominated where the constraints' left sides are objectives too."""

        def extended(p: Point) -> Point:
            values = (*p.values, *self.constraints.minimised(p.metrics))
            return Point(p.trial, p.epoch, p.metrics, values)

        kept = with_point([extended(p) for p in self.candidates], extended(point))
        return [Point(p.trial, p.epoch, p.metrics, p.values[: len(self.objectives)]) for p in kept]

    def _set_reference(self) -> None:
        given: Mapping[str, float | Expression] = self._wanted_reference
        self.reference: dict[str, float] | None = None
        if self.baseline is not None:
            metrics = self.baseline.metrics
            given = {
                n: v.value({}, metrics) if isinstance(v, Expression) else v for n, v in given.items()
            }
        numbers: dict[str, float] = {
            name: value for name, value in given.items() if not isinstance(value, Expression)
        }
        if len(numbers) == len(given) and all(map(math.isfinite, numbers.values())):
            self.reference = numbers
            self._reference = minimised(numbers, self.objectives)
