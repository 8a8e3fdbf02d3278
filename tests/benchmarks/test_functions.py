from __future__ import annotations

import math

import numpy as np
import pytest

from orchestrator.pareto import hypervolume
from tests.benchmarks.functions import (
    BRANIN_CURRIN_HYPERVOLUME,
    PARK_HYPERVOLUME,
    Array,
    branin_currin,
    park,
)
from tests.benchmarks.problems import function_problem

BRANIN_MINIMUM = 10 / (8 * math.pi)
"""Where the square vanishes and the cosine is -1: 10 - 10 (1 - 1 / 8 pi) = 0.397887."""


def grid(num: int, num_inputs: int) -> Array:
    axes = np.meshgrid(*[np.linspace(0, 1, num)] * num_inputs)
    return np.stack(axes, axis=-1).reshape(-1, num_inputs)


@pytest.mark.parametrize("u", [-math.pi, math.pi, 3 * math.pi])
def test_branin_has_its_three_minima(u: float) -> None:
    v = 5.1 / (4 * math.pi**2) * u**2 - 5 / math.pi * u + 6
    values = branin_currin(np.array([[(u + 5) / 15, v / 15]]), np.ones(1))
    assert values[0, 0] == pytest.approx((21 - BRANIN_MINIMUM) / 22)


def test_nothing_is_better_than_branins_minimum() -> None:
    values = branin_currin(grid(301, 2), np.ones(301**2))
    assert values[:, 0].max() <= (21 - BRANIN_MINIMUM) / 22
    assert values[:, 0].max() == pytest.approx((21 - BRANIN_MINIMUM) / 22, abs=1e-3)


@pytest.mark.parametrize(("x", "currin"), [(0.0, 60 / 20), (1.0, 6352 / 624)])
def test_currin_at_the_ends_of_its_first_input(x: float, currin: float) -> None:
    full, none = branin_currin(np.array([[x, 0.5]] * 2), np.array([1.0, 0.0]))[:, 1]
    assert full == pytest.approx((14 - currin) / 15)
    assert none == pytest.approx((14 - currin * (1 - 0.1 / math.e)) / 15)


def test_currin_where_its_second_input_is_0_does_not_depend_on_fidelity() -> None:
    full, none = branin_currin(np.array([[0.3, 0.0]] * 2), np.array([1.0, 0.0]))[:, 1]
    assert full == none


def test_park_where_nothing_is_bent() -> None:
    """At (0.6, 0, 0.5, 0.8) the bent inputs are (1, 0, 1, 1)."""
    first, second = park(np.array([[0.6, 0.0, 0.5, 0.8]]), np.ones(1))[0]
    assert first == pytest.approx(
        (0.5 * math.sqrt(1 + 1 / 1.0001) + 4 * math.exp(1 + math.sin(1))) / 22 - 0.8
    )
    assert second == pytest.approx((4 - 2 / 3 * math.e + math.sin(1)) / 4 - 0.7)


def test_parks_fidelity_0_is_0_9_of_it_and_a_shift() -> None:
    first, second = park(np.array([[0.6, 0.0, 0.5, 0.8]]), np.zeros(1))[0]
    root = 1.001 / 2 * math.sqrt(1 + 1 / 1.0001)
    assert first == pytest.approx(0.9 * (root + 4 * math.exp(1 + math.sin(1)) - 0.1) / 22 - 0.8)
    assert second == pytest.approx(0.9 * (4.1 - 2 / 3 * math.e + 0.9 * math.sin(1)) / 4 - 0.7)


def test_a_grids_hypervolume_comes_near_the_best_and_not_above_it() -> None:
    inputs = grid(601, 2) ** [3, 1]  # the front has a small first input
    found = hypervolume(-branin_currin(inputs, np.ones(601**2)), (0, 0))
    assert 0.995 < found / function_problem("branin-currin").best_last <= 1
    found = hypervolume(-park(grid(21, 4), np.ones(21**4)), (0, 0))
    assert 0.95 < found / function_problem("park").best_last <= 1


def test_the_documented_hypervolumes_are_near_ours() -> None:
    branin, other = function_problem("branin-currin"), function_problem("park")
    assert branin.best_last < BRANIN_CURRIN_HYPERVOLUME < branin.best
    assert 0.95 < PARK_HYPERVOLUME / other.best < 1


def test_lower_fidelities_add_to_the_front_of_branin_currin() -> None:
    low = hypervolume(-branin_currin(grid(301, 2), np.full(301**2, 1 / 27)), (0, 0))
    problem = function_problem("branin-currin")
    assert problem.best_last < low <= problem.best
