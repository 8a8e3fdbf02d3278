"""Which trials go on: asynchronous successive halving over several objectives. Pure.

At each rung, `grace_epochs * reduction_factor^k` epochs, a trial is compared with those of its stratum
that reached the rung before it (Li et al. 2020, "A System for Massively Parallel Hyperparameter
Tuning"); with several objectives by non-dominated rank, then by hypervolume contribution (Schmucker et
al. 2021, "Multi-objective Asynchronous Successive Halving"). Unlike theirs, a point that nothing in its
rung dominates is never stopped, unless it is beyond the reference and others are not: such a point
adds nothing to the hypervolume. Called by `orchestrator.stopping_rule`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from orchestrator.pareto import Values, contributions, quantiles, ranks

_BEYOND_WORST = 1.1
"""Where a contribution's box ends, in quantiles: beyond the worst, so that a front's ends count."""
_ROUNDING = 1e-12


class RungPoint(NamedTuple):
    """A trial at a rung.

    Attributes:
        values: the objectives, minimised, finite.
        metrics: all metrics, from which constraints are judged.
    """

    values: tuple[float, ...]
    metrics: Mapping[str, float]


class Place(NamedTuple):
    """Where a newcomer stands in its rung.

    Attributes:
        rank: its non-dominated rank, 0 where nothing dominates it.
        num_better: points before it, by rank and then by hypervolume contribution.
        size: points in the rung, the newcomer included.
    """

    rank: int
    num_better: int
    size: int

    def goes_on(self, reduction_factor: float) -> bool:
        """Whether it is non-dominated or in the best 1 / factor; nobody is stopped before the rung has
        as many points as that share needs to hold one.
        """
        return (
            self.rank == 0
            or self.size < reduction_factor
            or self.num_better < self.size / reduction_factor
        )


def place(
    values: Sequence[Sequence[float]] | Values,
    violations: Sequence[float] | Values = (),
    reference: Sequence[float] | None = None,
) -> Place:
    """The place of the last point among all.

    Contributions are measured in quantiles of the rung, so no objective's unit or scale matters; equal
    points have equal places.

    Args:
        values: (point, objective), finite.
        violations: of each point, 0 where it holds every constraint; empty where there is none.
        reference: of the hypervolume; points that are worse than it come after all that are not.
    """
    array = np.asarray(values, dtype=float)
    rank = ranks(array, violations, reference)
    own = rank[-1]
    num_better = int(np.count_nonzero(rank < own))
    if own:  # the first front goes on whatever its order
        peers = quantiles(array)[rank == own]
        num_better += _num_larger(peers)
    return Place(int(own), num_better, len(array))


def _num_larger(peers: Values) -> int:
    """How many points of a front contribute more hypervolume than the last; equals, as one would."""
    distinct, inverse = np.unique(peers, axis=0, return_inverse=True)
    volume = contributions(distinct, [_BEYOND_WORST] * distinct.shape[1])[inverse.ravel()]
    return int(np.count_nonzero(volume > volume[-1] + _ROUNDING))


class Stop(NamedTuple):
    """The decision to stop a trial.

    Attributes:
        rung: epochs of the rung.
        place: of the trial in it.
    """

    rung: int
    place: Place

    @property
    def reason(self) -> str:
        return (
            f"early stopping at epoch {self.rung}: {self.place.num_better} of {self.place.size} "
            "trials in its rung are better"
        )


@dataclass
class SuccessiveHalving:
    """The rungs of a sweep.

    Attributes:
        grace_epochs: the first rung.
        reduction_factor: between a rung and the next, and 1 / the share that goes on.
        max_rung_size: the newest points of a rung that a newcomer is compared with.
        violation: how far a point is from holding the constraints, 0 where it does.
    """

    grace_epochs: int
    reduction_factor: float
    max_rung_size: int
    violation: Callable[[Mapping[str, float]], float] = lambda metrics: 0.0
    _rungs: dict[tuple[Hashable, int], deque[RungPoint]] = field(default_factory=dict)
    _next_rung: dict[str, int] = field(default_factory=dict)

    def observe(
        self,
        trial: str,
        stratum: Hashable,
        epoch: int,
        point: RungPoint,
        reference: Sequence[float] | None = None,
    ) -> Stop | None:
        """Takes in a report; at the trial's first report at or after a rung it is compared there.

        Reports of a trial come in order of epoch, and each changes the rungs once.

        Args:
            trial: its name.
            stratum: of the trial.
            epoch: of the report.
            point: of the report.
            reference: of the hypervolume as it is now.

        Returns:
            The decision to stop it; None where it goes on.
        """
        if epoch < self._next_rung.get(trial, self.grace_epochs):
            return None
        reached, self._next_rung[trial] = self._rungs_around(epoch)
        rung = self._rungs.setdefault((stratum, reached), deque(maxlen=self.max_rung_size))
        rung.append(point)
        violations = np.maximum([self.violation(p.metrics) for p in rung], 0.0)
        found = place([p.values for p in rung], violations, reference)
        return None if found.goes_on(self.reduction_factor) else Stop(reached, found)

    def _rungs_around(self, epoch: int) -> tuple[int, int]:
        """The rung at or below an epoch, and the next one above it."""
        below, k = self.grace_epochs, 1
        while (above := rung_epochs(self.grace_epochs, self.reduction_factor, k)) <= epoch:
            below, k = above, k + 1
        return below, above


def rung_epochs(grace_epochs: int, reduction_factor: float, k: int) -> int:
    """Epochs of the k-th rung, from 0; `reduction_factor` is at least 2, so that they grow."""
    return round(grace_epochs * reduction_factor**k)
