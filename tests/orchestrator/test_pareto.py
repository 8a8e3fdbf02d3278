from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sweep_events import EXAMPLES

from orchestrator.pareto import (
    contributions,
    dominates,
    hypervolume,
    hypervolume_history,
    minimised,
    nondominated,
    quantiles,
    ranks,
)

Points = list[tuple[float, ...]]

clouds = st.integers(2, 4).flatmap(
    lambda width: st.lists(st.tuples(*[st.integers(0, 4).map(float)] * width), max_size=15)
)
"""On a coarse grid, so that ties and duplicates are common; 2 to 4 objectives."""


def slow_front(points: Points) -> list[bool]:
    """The definition: nobody before it is equal, and nobody is nowhere worse and somewhere better."""
    return [
        point not in points[:index]
        and not any(
            all(x <= y for x, y in zip(other, point, strict=True))
            and any(x < y for x, y in zip(other, point, strict=True))
            for other in points
        )
        for index, point in enumerate(points)
    ]


def slow_hypervolume(points: Points, reference: int) -> int:
    """Counts the unit cells below `reference` that some point (with whole coordinates) covers."""
    width = len(points[0]) if points else 2
    corners = np.array(np.meshgrid(*[range(reference)] * width)).reshape(width, -1).T
    covered = [np.all(corners >= np.array(point), axis=1) for point in points]
    return int(np.any(covered, axis=0).sum()) if covered else 0


@EXAMPLES
@given(clouds)
def test_nondominated_equals_the_definition(points: Points) -> None:
    assert nondominated(points).tolist() == slow_front(points)


@EXAMPLES
@given(clouds)
def test_every_point_is_on_the_front_or_beaten_by_it(points: Points) -> None:
    kept = nondominated(points)
    front = [point for point, keep in zip(points, kept, strict=True) if keep]
    others = [point for point, keep in zip(points, kept, strict=True) if not keep]
    assert not any(dominates(a, b) for a in front for b in front)
    assert all(any(a == b or dominates(a, b) for a in front) for b in others)


@EXAMPLES
@given(clouds)
def test_domination_is_a_strict_order(points: Points) -> None:
    pairs = {(a, b) for a in points for b in points if dominates(a, b)}
    assert not any((b, a) in pairs for a, b in pairs)
    assert all((a, d) in pairs for a, b in pairs for c, d in pairs if b == c)


@pytest.mark.parametrize(
    ("a", "b", "answer"),
    [
        ((1, 1), (2, 2), True),
        ((1, 1), (1, 2), True),
        ((1, 1), (1, 1), False),
        ((1, 2), (2, 1), False),
        ((2, 2), (1, 1), False),
        ((1,), (2,), True),
    ],
)
def test_dominates_is_nowhere_worse_and_somewhere_better(
    a: tuple[float, ...], b: tuple[float, ...], answer: bool
) -> None:
    assert dominates(a, b) is answer


@pytest.mark.parametrize(
    ("points", "volume"),
    [
        ([], 0),
        ([(1, 2)], 2 * 3),
        ([(1, 3), (2, 1)], 2 * 2 + 1 * 4 - 1 * 2),
        ([(1, 3), (2, 1), (2, 4)], 2 * 2 + 1 * 4 - 1 * 2),
        ([(1, 2), (1, 2)], 2 * 3),
        ([(4, 4)], 0),
        ([(3, 0)], 0),
        ([(0, 6), (1, 2)], 2 * 3),
        ([(-1, -1)], 4 * 6),
    ],
    ids=[
        "none",
        "box",
        "two",
        "dominated",
        "equal",
        "beyond",
        "on the border",
        "half beyond",
        "negative",
    ],
)
def test_hypervolume_is_the_area_up_to_the_reference(
    points: list[tuple[float, float]], volume: float
) -> None:
    assert hypervolume(points, (3, 5)) == pytest.approx(volume)


@EXAMPLES
@given(clouds)
def test_hypervolume_equals_counted_cells(points: Points) -> None:
    width = len(points[0]) if points else 2
    assert hypervolume(points, [4] * width) == pytest.approx(slow_hypervolume(points, 4))


@EXAMPLES
@given(clouds)
def test_contributions_are_what_the_front_loses_with_each_point(points: Points) -> None:
    width = len(points[0]) if points else 2
    front = [point for point, keep in zip(points, slow_front(points), strict=True) if keep]
    whole = slow_hypervolume(front, 4)
    lost = [
        whole - slow_hypervolume([p for p in front if p != point], 4) if keep else 0
        for point, keep in zip(points, slow_front(points), strict=True)
    ]
    assert contributions(points, [4] * width).tolist() == pytest.approx(lost)


def test_of_equal_points_the_first_carries_the_contribution() -> None:
    result = contributions([(1, 1), (0, 4), (1, 1)], (3, 3))
    assert result.tolist() == [4, 0, 0]


def test_one_objective_has_its_best_as_front() -> None:
    points = [(2.0,), (1.0,), (3.0,), (1.0,)]
    assert nondominated(points).tolist() == [False, True, False, False]
    assert hypervolume(points, [4]) == 3


def test_minimised_negates_what_is_maximised_in_the_objectives_order() -> None:
    values = {"d_eff": 7.0, "other": 1.0, "knn_accuracy": 0.9}
    assert minimised(values, {"knn_accuracy": "max", "d_eff": "min"}) == (-0.9, 7.0)
    assert minimised(values, {"d_eff": "min", "knn_accuracy": "max"}) == (7.0, -0.9)


def test_negating_an_objective_and_its_direction_keeps_the_front() -> None:
    accuracies, sizes = [0.9, 0.8, 0.95, 0.7], [10.0, 5.0, 20.0, 8.0]
    rows = [{"a": a, "b": b} for a, b in zip(accuracies, sizes, strict=True)]
    flipped = [{"a": -row["a"], "b": row["b"]} for row in rows]
    front = nondominated([minimised(row, {"a": "max", "b": "min"}) for row in rows])
    again = nondominated([minimised(row, {"a": "min", "b": "min"}) for row in flipped])
    assert front.tolist() == again.tolist() == [True, True, True, False]


def test_one_objective_has_one_contributor() -> None:
    assert contributions([(2.0,), (1.0,), (1.0,)], [3.0]).tolist() == [0.0, 2.0, 0.0]
    assert contributions([(4.0,)], [3.0]).tolist() == [0.0]


@EXAMPLES
@given(clouds)
def test_ranks_peel_one_front_after_the_other(points: Points) -> None:
    found, left, rank = ranks(points).tolist(), list(range(len(points))), 0
    while left:
        best = [i for i in left if not any(dominates(points[j], points[i]) for j in left)]
        assert all(found[i] == rank for i in best)
        left, rank = [i for i in left if i not in best], rank + 1


@EXAMPLES
@given(clouds.filter(bool), st.data())
def test_constraints_come_before_dominance(points: Points, data: st.DataObject) -> None:
    violations = data.draw(
        st.lists(st.sampled_from([0.0, 0.0, 0.5, 2.0]), min_size=len(points), max_size=len(points))
    )
    found = ranks(points, violations)
    holding = [i for i, v in enumerate(violations) if v == 0]
    assert found[holding].tolist() == ranks([points[i] for i in holding]).tolist()
    for i, violation in enumerate(violations):
        for j, other in enumerate(violations):
            if violation < other:
                assert found[i] < found[j]
            elif violation == other and violation > 0:
                assert found[i] == found[j]


def test_quantiles_are_places_among_distinct_values() -> None:
    points = [(10.0, 3.0), (1e6, 3.0), (-5.0, 3.0), (10.0, 3.0)]
    assert quantiles(points).tolist() == [[0.5, 0], [1.0, 0], [0.0, 0], [0.5, 0]]


@EXAMPLES
@given(clouds)
def test_the_history_is_the_hypervolume_of_every_beginning(points: Points) -> None:
    width = len(points[0]) if points else 2
    history = hypervolume_history(points, [4] * width)
    assert history == [slow_hypervolume(points[: n + 1], 4) for n in range(len(points))]
    assert history == sorted(history)
