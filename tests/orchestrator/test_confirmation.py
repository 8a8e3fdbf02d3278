from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sweep_events import (
    EXAMPLES,
    OBJECTIVES,
    REFERENCE,
    TRIALS,
    confirming,
    ended,
    proposed,
    record_of,
    reported,
)

from orchestrator.confirmation import (
    Repeat,
    Values,
    confirmations,
    confirms_nothing,
    front_probabilities,
    further_seeds,
    point_at,
    repeats,
    unconfirmed,
    unreproduced,
)
from orchestrator.constraints import Constraints
from orchestrator.events import Event, TrialStatus
from orchestrator.front import Front
from orchestrator.pareto import dominates
from orchestrator.record import SweepRecord
from orchestrator.settings import ConfirmSettings

A, B, C = TRIALS
WORST = 4


def values_of_a_trial(num_objectives: int) -> st.SearchStrategy[Values]:
    """(seed, point, objective) on a coarse grid, so that ties and equals are common."""
    shape = st.tuples(st.integers(1, 3), st.integers(1, 2))

    # A point that breaks the constraints is infinite in all its objectives.
    def broken(values: Values) -> Values:
        values[values[..., 0] == WORST] = math.inf
        return values

    return shape.flatmap(
        lambda s: st.lists(
            st.integers(0, WORST),
            min_size=s[0] * s[1] * num_objectives,
            max_size=s[0] * s[1] * num_objectives,
        ).map(lambda values: broken(np.array(values, dtype=float).reshape(*s, num_objectives)))
    )


sweeps = st.integers(1, 3).flatmap(lambda n: st.lists(values_of_a_trial(n), min_size=1, max_size=3))


def enumerated(trials: list[Values]) -> list[Values]:
    """The same probabilities by going through every draw of seeds."""
    counts = [np.zeros(trial.shape[1]) for trial in trials]
    draws = list(itertools.product(*(range(len(trial)) for trial in trials)))
    for draw in draws:
        points = [trial[seed] for trial, seed in zip(trials, draw, strict=True)]
        everything = [tuple(point) for own in points for point in own]
        for count, own in zip(counts, points, strict=True):
            count += [
                math.isfinite(point[0]) and not any(dominates(p, tuple(point)) for p in everything)
                for point in own
            ]
    return [count / len(draws) for count in counts]


@EXAMPLES
@given(sweeps)
def test_the_probability_is_that_of_all_draws_of_seeds(trials: list[Values]) -> None:
    for found, expected in zip(front_probabilities(trials), enumerated(trials), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-12)


@EXAMPLES
@given(sweeps, st.floats(0.1, 10), st.floats(-5, 5))
def test_the_probability_does_not_change_with_the_units(
    trials: list[Values], scale: float, shift: float
) -> None:
    again = front_probabilities([trial * scale + shift for trial in trials])
    for found, other in zip(front_probabilities(trials), again, strict=True):
        assert ((found >= 0) & (found <= 1)).all()
        np.testing.assert_array_equal(found, other)


@EXAMPLES
@given(sweeps)
def test_what_no_seed_of_anybody_dominates_is_certainly_on_the_front(trials: list[Values]) -> None:
    best = np.full((2, 1, trials[0].shape[2]), -1.0)
    assert front_probabilities([*trials, best])[-1].tolist() == [1.0]


def test_seeds_of_two_trials_meet_in_all_pairs() -> None:
    # Of A's two seeds one is dominated by one of B's three; nothing else dominates anything.
    a = np.array([[[2.0, 2.0]], [[0.0, 9.0]]])
    b = np.array([[[1.0, 1.0]], [[3.0, 1.5]], [[2.5, 0.5]]])
    first, second = front_probabilities([a, b])
    assert first.tolist() == pytest.approx([(1 + 2 / 3) / 2])
    assert second.tolist() == [1.0]


def test_points_of_one_trial_share_its_seed() -> None:
    # Under the first seed the first point dominates the second, under the other the other way round.
    trial = np.array([[[0.0], [1.0]], [[1.0], [0.0]]])
    assert front_probabilities([trial])[0].tolist() == [0.5, 0.5]


def test_a_point_that_breaks_the_constraints_is_not_on_the_front_and_dominates_nobody() -> None:
    # B's point needs an accuracy of 0.5 and has it under one of its seeds.
    record = SweepRecord(Front(OBJECTIVES, REFERENCE, Constraints.of(["knn_accuracy >= 0.5"])))
    events = [
        *(proposed(trial, number) for number, trial in enumerate(TRIALS)),
        reported(A, 5, accuracy=0.9, d_eff=9.0),
        reported(B, 5, accuracy=0.6, d_eff=3.0),
        *repeat(A, 43, (5, 0.6, 9.0)),
        *repeat(B, 43, (5, 0.4, 3.0)),
        *repeat(B, 44, (5, 0.7, 3.0)),
    ]
    for event in events:
        record.apply(event)
    assert {key: c.front_probability for key, c in confirmations(record).items()} == {
        (A, 5): 0.5,
        (B, 5): 0.5,
    }


def test_equal_points_share_the_front() -> None:
    assert [p.tolist() for p in front_probabilities([np.ones((2, 1, 2))] * 2)] == [[1.0], [1.0]]


def test_further_seeds_come_after_the_trials_own() -> None:
    assert further_seeds(42, 3) == [43, 44, 45]
    assert further_seeds(2**32 - 2, 3) == [2**32 - 1, 0, 1]


FRONT = [
    reported(A, 5, accuracy=0.9, d_eff=9.0),
    reported(A, 10, accuracy=0.8, d_eff=5.0),
    reported(B, 5, accuracy=0.5, d_eff=3.0),
    reported(C, 5, accuracy=0.4, d_eff=4.0),
]
"""A and B are on the front, A twice."""


def repeat(of: str, seed: int, *points: tuple[int, float, float], status: TrialStatus = "completed"):
    """A trial that confirms, its (epoch, accuracy, d_eff), and its end."""
    name = f"{of}-seed-{seed}"
    return [confirming(of, seed), *(reported(name, *point) for point in points), ended(name, status)]


def test_each_configuration_of_the_front_is_repeated_once_before_any_is_twice() -> None:
    planned = repeats(record_of(*FRONT), ConfirmSettings(seeds=2))
    assert planned == [Repeat(A, 43), Repeat(B, 43), Repeat(A, 44), Repeat(B, 44)]
    assert planned[0].name == "trial-0000-seed-43"
    assert repeats(record_of(*FRONT), None) == []


def test_what_ended_is_not_repeated_also_where_it_failed() -> None:
    events: list[Event] = [
        *repeat(A, 43, (5, 0.9, 9.0)),
        *repeat(B, 43, status="failed"),
        *repeat(A, 44, status="interrupted"),
    ]
    left = unconfirmed(record_of(*FRONT, *events), ConfirmSettings(seeds=2))
    assert left == [Repeat(A, 44), Repeat(B, 44)]


def test_more_seeds_leave_what_is_there() -> None:
    done = [event for of in (A, B) for event in repeat(of, 43, (10, 0.9, 9.0))]
    record = record_of(*FRONT, *done)
    assert unconfirmed(record, ConfirmSettings(seeds=1)) == []
    assert unconfirmed(record, ConfirmSettings(seeds=2)) == [Repeat(A, 44), Repeat(B, 44)]


def test_a_front_that_moved_on_has_other_configurations() -> None:
    record = record_of(*FRONT, *repeat(B, 43, (5, 0.5, 3.0)), reported(C, 10, accuracy=0.95, d_eff=2.0))
    assert unconfirmed(record, ConfirmSettings(seeds=1)) == [Repeat(C, 43)]
    assert confirmations(record) == {}


def test_a_training_whose_patience_ended_stands_by_its_last_report() -> None:
    record = record_of(*repeat(A, 43, (5, 0.5, 5.0), (10, 0.6, 6.0)))
    trial = record.confirming["trial-0000-seed-43"]
    points = [point_at(trial, epoch) for epoch in (4, 5, 9, 10, 40)]
    assert [point and point.epoch for point in points] == [None, 5, 5, 10, 10]


def test_mean_and_deviation_are_of_the_further_seeds_alone() -> None:
    events = [*repeat(B, 43, (5, 0.25, 2.0)), *repeat(B, 44, (5, 0.75, 4.0))]
    (key, found), *others = confirmations(record_of(*FRONT, *events)).items()
    assert (key, others) == ((B, 5), [])
    assert found.num_seeds == 2
    assert found.means == {"knn_accuracy": 0.5, "d_eff": 3.0}
    assert found.deviations == {
        "knn_accuracy": pytest.approx(0.25 * math.sqrt(2)),
        "d_eff": pytest.approx(math.sqrt(2)),
    }


def test_one_seed_has_no_deviation() -> None:
    found = confirmations(record_of(*FRONT, *repeat(B, 43, (5, 0.25, 2.0))))[B, 5]
    assert found.means["d_eff"] == 2.0
    assert math.isnan(found.deviations["d_eff"])


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_only_trials_that_succeeded_count(status: TrialStatus) -> None:
    events = [*repeat(B, 43, (5, 0.25, 2.0)), *repeat(B, 44, (5, 0.75, 4.0), status=status)]
    assert confirmations(record_of(*FRONT, *events))[B, 5].num_seeds == 1


def test_every_point_of_a_trial_on_the_front_is_confirmed() -> None:
    # Under seed 44, A's points dominate one another and B's dominates neither.
    events = [
        *repeat(A, 43, (5, 0.9, 9.0), (10, 0.8, 5.0)),
        *repeat(A, 44, (5, 0.7, 9.0), (10, 0.8, 5.0)),
        *repeat(B, 43, (5, 0.5, 3.0)),
    ]
    found = confirmations(record_of(*FRONT, *events))
    assert {key: c.front_probability for key, c in found.items()} == {
        (A, 5): 0.5,
        (A, 10): 1.0,
        (B, 5): 1.0,
    }
    assert found[A, 5].means["knn_accuracy"] == pytest.approx(0.8)


def test_a_configuration_that_failed_under_every_seed_is_named_and_does_not_compete() -> None:
    events = [
        *repeat(A, 43, (5, 0.9, 9.0), (10, 0.8, 5.0)),
        *repeat(B, 43, (5, 0.99, 1.0), status="failed"),
        *repeat(B, 44, status="failed"),
    ]
    record = record_of(*FRONT, *events)
    assert unreproduced(record) == [B]
    assert {c.front_probability for c in confirmations(record).values()} == {1.0}
    assert not confirms_nothing(record)


def test_that_nothing_succeeded_is_seen() -> None:
    assert confirms_nothing(record_of(*FRONT, *repeat(A, 43, status="failed")))
    assert not confirms_nothing(record_of(*FRONT))
    assert not unreproduced(record_of(*FRONT, *repeat(A, 43, status="interrupted")))
