"""The front's configurations trained again under further seeds: which trials that takes, and what they
say of each point. Pure and exact: nothing is drawn at random.

What is selected for its values is flattered by them; the values under further seeds are not selected.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from orchestrator.record import SweepRecord
from orchestrator.settings import ConfirmedPoints, ConfirmSettings
from orchestrator.trials import Point, Trial

Values = NDArray[np.float64]
NUM_SEEDS = 2**32
"""A trial's seed is below it."""


class Repeat(NamedTuple):
    """A configuration to be trained again.

    Attributes:
        confirms: the trial that has the configuration.
        seed: the further seed.
    """

    confirms: str
    seed: int

    @property
    def name(self) -> str:
        """Of the trial that it becomes."""
        return f"{self.confirms}-seed-{self.seed}"


def further_seeds(seed: int, number: int) -> list[int]:
    """The seeds that come after a trial's own."""
    return [(seed + step) % NUM_SEEDS for step in range(1, number + 1)]


def repeats(record: SweepRecord, settings: ConfirmSettings | None) -> list[Repeat]:
    """What confirming the sweep takes: each configuration once, then each once more, and so on, so that
    an end on the way leaves all of them confirmed alike.
    """
    if settings is None:
        return []
    trials = confirmed_trials(record, settings.of)
    seeds = [further_seeds(trial.config["seed"], settings.seeds) for trial in trials]
    return [
        Repeat(trial.name, trial_seeds[place])
        for place in range(settings.seeds)
        for trial, trial_seeds in zip(trials, seeds, strict=True)
    ]


def confirmed_trials(record: SweepRecord, of: ConfirmedPoints) -> list[Trial]:
    """The trials whose configurations are confirmed, in the order of proposal."""
    points: dict[ConfirmedPoints, list[Point]] = {"front": record.front.points}
    names = {point.trial for point in points[of]}
    return [trial for trial in list(record.trials.values()) if trial.name in names]


def unconfirmed(record: SweepRecord, settings: ConfirmSettings | None) -> list[Repeat]:
    """What of it is not done; a trial that failed is."""
    confirming = record.confirming
    return [
        repeat
        for repeat in repeats(record, settings)
        if repeat.name not in confirming or confirming[repeat.name].is_unfinished
    ]


def is_confirmed_evenly(record: SweepRecord) -> bool:
    """Whether all of the front was repeated equally often and none is at work: before that, the
    probabilities compare points with few seeds with points that have none.
    """
    trials = list(record.confirming.values())
    counts = Counter(trial.confirms for trial in trials if trial.status in ("completed", "failed"))
    wanted = {counts[trial.name] for trial in confirmed_trials(record, "front")}
    return len(wanted) == 1 and not any(trial.is_unfinished for trial in trials)


def confirms_nothing(record: SweepRecord) -> bool:
    """Whether trials that confirm were run and none of them succeeded."""
    statuses = {trial.status for trial in record.confirming.values()}
    return bool(statuses) and "completed" not in statuses


def unreproduced(record: SweepRecord) -> list[str]:
    """The trials on the front whose configuration failed under every further seed."""
    statuses: dict[str, set[str]] = {}
    for trial in record.confirming.values():
        statuses.setdefault(trial.confirms, set()).add(trial.status)
    return [t.name for t in confirmed_trials(record, "front") if statuses.get(t.name) == {"failed"}]


@dataclass(frozen=True)
class Confirmation:
    """What the further seeds say of a point; the seed that it was found with is not among them.

    Attributes:
        num_seeds: the trials that succeeded.
        means: of each objective, in its own direction.
        deviations: of each objective, of the sample; NaN with one seed.
        front_probability: see `front_probabilities`.
    """

    num_seeds: int
    means: Mapping[str, float]
    deviations: Mapping[str, float]
    front_probability: float


def confirmations(record: SweepRecord) -> dict[tuple[str, int], Confirmation]:
    """The (trial, epoch) of each confirmed point of the front, and its confirmation.

    A configuration of which no further seed succeeded has none, and does not compete with the others.
    """
    by_seed = {trial.name: _points_by_seed(record, trial) for trial in confirmed_trials(record, "front")}
    found = {trial: points for trial, points in by_seed.items() if points}
    drawn = [
        np.array([[_counting_values(record, point) for point in seed] for seed in points])
        for points in found.values()
    ]
    result: dict[tuple[str, int], Confirmation] = {}
    for (trial, points), probabilities in zip(found.items(), front_probabilities(drawn), strict=True):
        for epoch, values, probability in zip(
            _front_epochs(record, trial), zip(*points, strict=True), probabilities, strict=True
        ):
            result[trial, epoch] = _confirmation(record, values, float(probability))
    return result


def _front_epochs(record: SweepRecord, trial: str) -> list[int]:
    return sorted(point.epoch for point in record.front if point.trial == trial)


def _points_by_seed(record: SweepRecord, trial: Trial) -> list[list[Point]]:
    """Of each further seed that succeeded, the points that stand for the trial's on the front."""
    epochs = _front_epochs(record, trial.name)
    succeeded = [
        other
        for other in list(record.confirming.values())
        if other.confirms == trial.name and other.status == "completed"
    ]
    found = [[point_at(other, epoch) for epoch in epochs] for other in succeeded]
    return [[p for p in points if p is not None] for points in found if None not in points]


def point_at(trial: Trial, epoch: int) -> Point | None:
    """The point of a training at an epoch, or the last before it where its patience ended it there."""
    earlier = [point for point in trial.points if point.epoch <= epoch]
    return max(earlier, key=lambda point: point.epoch) if earlier else None


def _counting_values(record: SweepRecord, point: Point) -> tuple[float, ...]:
    """A point's values; infinite where it breaks the constraints."""
    return (
        point.values if record.front.violation(point.metrics) == 0 else (math.inf,) * len(point.values)
    )


def _confirmation(record: SweepRecord, points: Sequence[Point], probability: float) -> Confirmation:
    means: dict[str, float] = {}
    deviations: dict[str, float] = {}
    for name in record.front.objectives:
        values = [point.metrics[name] for point in points]
        means[name] = float(np.mean(values))
        deviations[name] = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return Confirmation(len(points), means, deviations, probability)


def front_probabilities(trials: Sequence[Values]) -> list[Values]:
    """The probability of each point that it holds the constraints and no other that does dominates it,
    when each trial draws one of its seeds.

    Trials draw uniformly and independently; all points of a trial share its draw. With V_i(s) the values
    of point i under seed s of its trial,

        P_i = mean over s of [V_i(s) is finite and no other point of the trial dominates it under s]
              * product over the other trials j of (1 - share of j's seeds under which a point of j
                dominates V_i(s))

    which is exact, since the other draws are independent once s is given.

    Args:
        trials: of each, its values (seed, point, objective), minimised, infinite where the point
            breaks the constraints then; numbers of seeds and points may differ from trial to trial.

    Returns:
        Of each trial, the probability of each point.
    """
    result = []
    for i, own in enumerate(trials):
        # The trial's own points meet under the same seed: a group of one draw for each.
        survives = 1.0 - np.stack([_is_dominated(seed[None], seed[None])[0, 0] for seed in own])
        survives *= np.isfinite(own).all(axis=-1)
        for j, others in enumerate(trials):
            if j != i:
                survives *= 1.0 - _is_dominated(own, others).mean(axis=1)
        result.append(survives.mean(axis=0))
    return result


def _is_dominated(own: Values, others: Values) -> Values:
    """Whether (1 or 0) each point of `own` is dominated: (seed of own, seed of others, point of own)."""
    mine, theirs = own[:, None, :, None, :], others[None, :, None, :, :]
    dominated = (theirs <= mine).all(axis=-1) & (theirs < mine).any(axis=-1)
    return np.any(dominated, axis=-1).astype(np.float64)
