"""Two sweeps' fronts in numbers: hypervolumes in one box, coverage, and what further seeds say. Pure.

For `dashboards.compare`. Everything is about the fronts as they are; each sweep ran its search once, so
nothing here tells one way of searching from another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from dashboards.head_results import SAME_TASK
from dashboards.sweep_story import SweepStory
from orchestrator.confirmation import NUM_SEEDS, confirmed_trials, point_at
from orchestrator.environment import DATA_DIGEST
from orchestrator.errors import UserError
from orchestrator.pareto import Values, hypervolume, minimised
from orchestrator.record import SweepRecord
from orchestrator.trial_settings import by_dotted_name
from orchestrator.trials import Point
from trainables.facts import DATASET_FACTS
from trainables.reports import Direction

LEVEL = 0.05
"""Below it a difference is called significant."""
MAX_EXACT = 200_000
"""Ways to part the values in two, up to which all are tried; 10 against 10 have 184,756."""
_COMPARED = (*SAME_TASK, "data.image_size", "encoder_dim")
"""The settings in which the trials of both sweeps should agree."""


class SeedTest(NamedTuple):
    """Whether two samples of hypervolumes differ.

    Attributes:
        p: two-sided, of the permutation test of the means' difference.
        smallest_p: that samples of these sizes can have.
        superiority: the share of pairs in which the first's is larger, ties half: 0.5 is no difference
            (Vargha and Delaney 2000, A_12).
        is_exact: whether all permutations were tried.
    """

    p: float
    smallest_p: float
    superiority: float
    is_exact: bool


class Comparison(NamedTuple):
    """Two sweeps. Every pair is of the first and the second.

    Attributes:
        labels: what they are called here.
        objectives: of both.
        reference: of both hypervolumes, in the objectives' own directions.
        reference_from: where it comes from, as words.
        statuses: of the sweeps.
        num_trials: that ended.
        num_points: on the fronts.
        best: of each objective, the best value on each front; NaN where a front is empty.
        hypervolumes: of the fronts.
        coverage: the share of the front that the other's is as good as or better than; NaN where it is
            empty.
        seed_hypervolumes: of each, one for each further seed under which all of its front was trained.
        test: of those; None where one of them has none.
        warnings: what makes the fronts hard to compare, in sentences.
    """

    labels: tuple[str, str]
    objectives: dict[str, Direction]
    reference: dict[str, float]
    reference_from: str
    statuses: tuple[str, str]
    num_trials: tuple[int, int]
    num_points: tuple[int, int]
    best: dict[str, tuple[float, float]]
    hypervolumes: tuple[float, float]
    coverage: tuple[float, float]
    seed_hypervolumes: tuple[list[float], list[float]]
    test: SeedTest | None
    warnings: list[str]


def compare(stories: tuple[SweepStory, SweepStory], labels: tuple[str, str]) -> Comparison:
    """Compares two sweeps.

    Raises:
        UserError: they have other objectives, or another task.
    """
    records = (stories[0].record, stories[1].record)
    objectives = _same_objectives(records, labels)
    _require_same_task(records, labels)
    reference, reference_from = common_reference(records)
    limit = minimised(reference, objectives)
    fronts = [[minimised(point.metrics, objectives) for point in record.front] for record in records]
    seeds = (seed_hypervolumes(records[0], reference), seed_hypervolumes(records[1], reference))
    return Comparison(
        labels=labels,
        objectives=objectives,
        reference=reference,
        reference_from=reference_from,
        statuses=(records[0].status, records[1].status),
        num_trials=(records[0].num_ended, records[1].num_ended),
        num_points=(len(fronts[0]), len(fronts[1])),
        best={name: (_best(records[0], name), _best(records[1], name)) for name in objectives},
        hypervolumes=(hypervolume(fronts[0], limit), hypervolume(fronts[1], limit)),
        coverage=(coverage(fronts[1], fronts[0]), coverage(fronts[0], fronts[1])),
        seed_hypervolumes=seeds,
        test=seed_test(*seeds) if all(seeds) else None,
        warnings=_warnings(stories, labels),
    )


def common_reference(records: tuple[SweepRecord, SweepRecord]) -> tuple[dict[str, float], str]:
    """The reference of both hypervolumes, and where it comes from.

    It is both sweeps' own where these agree, else of each objective the worst of theirs; a sweep whose
    own is not known gives the worst of its front.
    """
    known = [record.front.reference for record in records]
    if known[0] is not None and known[0] == known[1]:
        return known[0], "the reference point of both sweeps"
    reference: dict[str, float] = {}
    for name, direction in records[0].front.objectives.items():
        values = [
            value
            for record, own in zip(records, known, strict=True)
            for value in ([own[name]] if own else [p.metrics[name] for p in record.front])
        ]
        reference[name] = (max if direction == "min" else min)(values, default=0.0)
    if None in known:
        return reference, (
            "of each objective the worst of the sweeps' reference points, and of the front of a sweep "
            "whose own is not known"
        )
    return reference, "of each objective the worse of the sweeps' reference points, which differ"


def coverage(by: Sequence[Sequence[float]], of: Sequence[Sequence[float]]) -> float:
    """C(by, of): the share of the points `of` that some point of `by` weakly dominates.

    C of E. Zitzler and L. Thiele 1999, "Multiobjective evolutionary algorithms: a comparative
    case study and the strength Pareto approach".

    Args:
        by: (point, objective), minimised.
        of: the same; of none the share is NaN.
    """
    if not len(of):
        return math.nan
    if not len(by):
        return 0.0
    ours, theirs = np.asarray(by), np.asarray(of)
    return float((ours[:, None, :] <= theirs[None, :, :]).all(axis=2).any(axis=0).mean())


def seed_hypervolumes(record: SweepRecord, reference: Mapping[str, float]) -> list[float]:
    """The hypervolume of the front's configurations under each further seed, at the front's epochs.

    The first value is under the seed that follows each configuration's own, and so on. A configuration
    that failed under a seed, or breaks the constraints under it, adds nothing; a seed under which not
    all have ended is left out.
    """
    trials = confirmed_trials(record, "front")
    by_step: dict[int, dict[str, list[Point]]] = {}
    for other in record.confirming.values():
        if other.confirms in record.trials and other.status in ("completed", "failed"):
            step = (other.config["seed"] - record.trials[other.confirms].config["seed"]) % NUM_SEEDS
            epochs = [point.epoch for point in record.front if point.trial == other.confirms]
            points = [point_at(other, epoch) for epoch in epochs] if other.status == "completed" else []
            by_step.setdefault(step, {})[other.confirms] = [p for p in points if p is not None]
    names = {trial.name for trial in trials}
    limit = minimised(reference, record.front.objectives)
    return [
        hypervolume(
            [
                point.values
                for name in names
                for point in found[name]
                if record.front.violation(point.metrics) == 0
            ],
            limit,
        )
        for _, found in sorted(by_step.items())
        if names and names <= found.keys()
    ]


def seed_test(a: Sequence[float], b: Sequence[float]) -> SeedTest:
    """The permutation test of the difference of two means, two-sided; exact up to MAX_EXACT ways."""
    ways = math.comb(len(a) + len(b), len(a))
    first, second = np.asarray(a), np.asarray(b)
    pairs = np.sign(first[:, None] - second[None, :])
    return SeedTest(
        p=_permutation_p(first, second),
        smallest_p=min(1.0, 2 / ways),
        superiority=float((pairs + 1).mean() / 2),
        is_exact=ways <= MAX_EXACT,
    )


def _permutation_p(first: Values, second: Values) -> float:
    if len(first) == 1 or len(second) == 1:  # which scipy does not take
        values = np.concatenate([first, second])
        (single,) = first if len(first) == 1 else second
        return min(1.0, 2 * float(min((values >= single).mean(), (values <= single).mean())))

    def difference(x: Values, y: Values, axis: int) -> Values:
        return x.mean(axis=axis) - y.mean(axis=axis)

    result = stats.permutation_test(
        (first, second), difference, vectorized=True, n_resamples=MAX_EXACT, rng=0
    )
    return float(result.pvalue)


def _same_objectives(
    records: tuple[SweepRecord, SweepRecord], labels: tuple[str, str]
) -> dict[str, Direction]:
    first, second = (record.front.objectives for record in records)
    if first != second:
        texts = [", ".join(f"{n} {d}" for n, d in given.items()) for given in (first, second)]
        raise UserError(
            f"{labels[0]} has the objectives {texts[0]}, {labels[1]} has {texts[1]}: their fronts are "
            "in different planes; compare sweeps with the same objectives"
        )
    return first


def _require_same_task(records: tuple[SweepRecord, SweepRecord], labels: tuple[str, str]) -> None:
    # A dataset that is not known here is a task of its own.
    known: dict[str, str] = {name: facts.task for name, facts in DATASET_FACTS.items()}
    first, second = (
        {known.get(name, name) for name in (str(t.config["dataset"]) for t in record.counted_trials)}
        for record in records
    )
    if first and second and first != second:
        texts = [" and ".join(sorted(tasks)) for tasks in (first, second)]
        raise UserError(
            f"{labels[0]} is about {texts[0]}, {labels[1]} about {texts[1]}: their numbers mean "
            "different things; compare sweeps on the same task"
        )


def _best(record: SweepRecord, name: str) -> float:
    values = [point.metrics[name] for point in record.front]
    best = min if record.front.objectives[name] == "min" else max
    return best(values) if values else math.nan


def _warnings(stories: tuple[SweepStory, SweepStory], labels: tuple[str, str]) -> list[str]:
    """What makes the fronts hard to compare."""
    found = []
    for label, story in zip(labels, stories, strict=True):
        front = story.record.front
        if story.record.status == "running":
            found.append(f"{label} still runs, or was killed.")
        if not len(front):
            found.append(f"{label} has no point.")
        elif not front.is_feasible:
            found.append(f"{label} has no point that holds its constraints; what is nearest is shown.")
    first, second = (story.record.front.constraints.texts() for story in stories)
    if sorted(first) != sorted(second):
        texts = [" and ".join(texts) or "none" for texts in (first, second)]
        found.append(f"Their constraints differ: {texts[0]} in {labels[0]}, {texts[1]} in {labels[1]}.")
    for name in _COMPARED:
        values = [_values(story.record, name) for story in stories]
        if all(values) and values[0] != values[1]:
            texts = [" and ".join(sorted(own)) for own in values]
            found.append(f"{name} differs: {texts[0]} in {labels[0]}, {texts[1]} in {labels[1]}.")
    return [*found, *_data_warnings(stories)]


def _data_warnings(stories: tuple[SweepStory, SweepStory]) -> list[str]:
    """Data of one name that are not the same."""
    first, second = (story.environment for story in stories)
    return [
        f"The data differ although they are named alike: {name.removeprefix(DATA_DIGEST)}."
        for name, digest in first.items()
        if name.startswith(DATA_DIGEST) and second.get(name, digest) != digest
    ]


def _values(record: SweepRecord, name: str) -> set[str]:
    """The values that a setting has in the trials of a sweep."""
    return {str(by_dotted_name(trial.config).get(name)) for trial in record.counted_trials}
