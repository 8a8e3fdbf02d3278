from __future__ import annotations

import numpy as np
import pytest

from orchestrator.pareto import ranks
from tests.benchmarks.decision import SHAPES, chain, decision_s, front, grid


def points(shape: object, num: int = 50) -> np.ndarray:
    return shape(num, np.random.default_rng(3))  # pyright: ignore[reportCallIssue]


def test_a_front_has_one_rank_and_a_chain_as_many_as_points() -> None:
    assert ranks(points(front)).max() == 0
    assert sorted(ranks(points(chain))) == list(range(50))


def test_a_grid_has_ties() -> None:
    found = points(grid, 1000)
    assert all(len(np.unique(column)) < 500 for column in found.T)


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_is_timed_with_the_newcomer_dominated(name: str) -> None:
    found = points(SHAPES[name])
    assert all(seconds >= 0 for seconds in decision_s(found))
    assert ranks(found)[-1] > 0
