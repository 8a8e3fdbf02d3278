from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.settings import SweepSettings
from tests.benchmarks.problems import Curve, Problem, function_problem
from tests.benchmarks.searches import ARMS, Result, at_shares, p_value, reach, rows_of, summed_up
from tests.benchmarks.simulator import Arm, simulate

FEW = settings(max_examples=15, deadline=None)
BUDGET = 200
PARK = function_problem("park")
arms = st.sampled_from(ARMS)


def lines(num_epochs: int = 4, diverging: bool = False) -> Problem:
    """One input x: a trial's objectives are x + epoch and -x; it may diverge after two epochs."""
    space = SweepSettings.model_validate(
        {
            "name": "lines",
            "search_space": {"x": {"uniform": [0.0, 1.0]}},
            "objectives": {"rises": "max", "falls": "max"},
        }
    )

    def curve(values: object) -> Curve:
        x = float(values["x"])  # pyright: ignore[reportIndexIssue]
        epochs = range(1, (2 if diverging and x < 0.5 else num_epochs) + 1)
        return Curve([{"rises": x + e, "falls": -x} for e in epochs], [1 + x] * num_epochs)

    reference = {"rises": 0.0, "falls": -1.0}
    return Problem("lines", space, num_epochs, reference, reference, 5.0, 5.0, lambda: curve)


@FEW
@given(arms, st.integers(0, 9), st.integers(1, 5))
def test_the_epochs_spent_are_those_of_the_trials(arm: Arm, seed: int, num_slots: int) -> None:
    found = simulate(PARK, arm, seed, BUDGET, num_slots)
    assert found.num_epochs.sum() == BUDGET == len(found.hypervolumes)
    assert found.num_epochs.max() <= PARK.num_epochs


@FEW
@given(arms, st.integers(0, 9))
def test_time_and_hypervolume_never_fall(arm: Arm, seed: int) -> None:
    found = simulate(PARK, arm, seed, BUDGET)
    for series in (found.times, found.hypervolumes, found.last_hypervolumes):
        assert (np.diff(series) >= 0).all()
    assert found.hypervolumes[-1] <= 1
    assert found.last_hypervolumes[-1] <= 1


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_the_same_seed_gives_the_same_search(arm: Arm) -> None:
    one, two, other = (simulate(PARK, arm, seed, BUDGET) for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert not np.array_equal(one.hypervolumes, other.hypervolumes)


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_without_stopping_every_trial_runs_to_its_end(sampler: str) -> None:
    found = simulate(lines(), Arm("none", sampler), 0, budget=4 * 10, num_slots=1)
    assert found.statuses == ["completed"] * 10 + ["running"]
    assert found.num_epochs.tolist() == [4] * 10 + [0]


def test_with_one_slot_the_clock_is_the_sum_of_the_epochs() -> None:
    found = simulate(lines(), Arm("none", "random"), 0, budget=8, num_slots=1)
    durations = np.diff(found.times, prepend=0.0)
    assert durations[:4] == pytest.approx([durations[0]] * 4)
    assert durations[4:] == pytest.approx([durations[4]] * 4)


def test_slots_train_at_the_same_time() -> None:
    one, four = (simulate(lines(), Arm("none", "random"), 0, 80, n) for n in (1, 4))
    assert 3 < one.times[-1] / four.times[-1] < 4.5


def test_a_trial_that_diverges_fails_and_is_told_to_the_sampler() -> None:
    found = simulate(lines(diverging=True), Arm("none", "tpe"), 0, budget=60, num_slots=1)
    assert set(found.statuses) == {"completed", "failed", "running"}


def test_stopped_trials_end_at_a_rung() -> None:
    found = simulate(PARK, ARMS[-1], 0, BUDGET)
    stopped = {n for n, s in zip(found.num_epochs, found.statuses, strict=True) if s == "stopped"}
    assert stopped
    assert stopped <= {3, 9}


def test_the_hypervolume_of_last_epochs_waits_for_the_first_end() -> None:
    found = simulate(lines(), Arm("none", "random"), 0, budget=8, num_slots=1)
    assert (found.last_hypervolumes[:3] == 0).all()
    assert found.last_hypervolumes[3] > 0
    assert found.last_hypervolumes[3] == pytest.approx(found.hypervolumes[3])


def result(*curves: list[float]) -> Result:
    return Result(np.array(curves), np.array(curves), num_trials=1)


def test_an_arm_reaches_randoms_end_where_its_mean_does() -> None:
    random = result([0.0, 0.1, 0.2, 0.4], [0.0, 0.1, 0.4, 0.6])
    arm = result([0.0, 0.5, 0.5, 0.5], [0.0, 0.5, 0.5, 0.5])
    assert reach(arm.curves, random.curves).share == 2 / 4
    assert reach(random.curves, random.curves).share == 1
    assert reach(random.curves - 0.1, random.curves).share == 1


def test_shares_of_the_budget_are_read_at_their_last_epoch() -> None:
    assert at_shares(np.arange(1, 17)[None] / 16).tolist() == [[1 / 8, 1 / 4, 1 / 2, 1]]


def test_the_same_values_are_no_difference_and_better_ones_at_every_seed_are_one() -> None:
    values = np.linspace(0, 1, 20)
    assert p_value(values, values) == 1
    # All 20 signs alike: two of the 2^20 ways they can fall.
    assert p_value(values + np.linspace(1, 2, 20), values) == pytest.approx(2 / 2**20)


def test_every_arm_searches_and_is_summed_up() -> None:
    found = {arm.name: summed_up([simulate(PARK, arm, s, 120) for s in range(3)]) for arm in ARMS}
    rows = rows_of(found)
    assert [row.name for row in rows][: len(ARMS)] == [arm.name for arm in ARMS]
    assert rows[0].note.startswith("random's end at ")
