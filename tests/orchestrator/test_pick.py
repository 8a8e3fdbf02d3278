from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.pareto import minimised, nondominated
from orchestrator.pick import choose, needs_baseline, parse_pick
from orchestrator.trials import Point
from trainables.reports import Direction

OBJECTIVES: dict[str, Direction] = {"knn_accuracy": "max", "d_eff": "min"}
BASELINE = {"knn_accuracy": 0.8, "d_eff": 100.0}


def front_of(values: Sequence[tuple[float, float]]) -> list[Point]:
    metrics = [{"knn_accuracy": a, "d_eff": d, "recall_at_1": a / 2} for a, d in values]
    points = [Point(str(n), 1, m, minimised(m, OBJECTIVES)) for n, m in enumerate(metrics)]
    return sorted(points, key=lambda point: point.values)


FRONT = front_of([(0.80, 100.0), (0.795, 40.0), (0.78, 14.0), (0.60, 6.0), (0.30, 3.0)])


def pick(rule: str, front: list[Point] = FRONT) -> float | None:
    point = choose(parse_pick(rule), front, OBJECTIVES, BASELINE)
    return point and point.metrics["d_eff"]


@pytest.mark.parametrize(
    ("rule", "d_eff"),
    [
        ("knee", 14.0),
        ("best knn_accuracy", 100.0),
        ("best  d_eff", 3.0),
        ("best d_eff subject to knn_accuracy >= 0.99 * baseline", 40.0),
        ("best d_eff subject to knn_accuracy >= 0.97 * baseline", 14.0),
        ("best recall_at_1 subject to d_eff <= 20 and knn_accuracy <= 0.7", 6.0),
        ("best d_eff subject to knn_accuracy >= 0.9", None),
        ("lexicographic knn_accuracy, d_eff", 100.0),
        ("lexicographic knn_accuracy within 0.01, d_eff", 40.0),
        ("lexicographic knn_accuracy within 1 %, d_eff", 40.0),
        ("lexicographic knn_accuracy within 30%, d_eff within 10, knn_accuracy", 14.0),
        ("lexicographic d_eff within 5, knn_accuracy", 6.0),
    ],
)
def test_a_rule_names_one_point(rule: str, d_eff: float | None) -> None:
    assert pick(rule) == d_eff


def test_a_knee_is_the_point_farthest_from_the_line_between_the_ends() -> None:
    # Scaled to [0, 1]: 0 + 1, 0.25 + 0.5625, 0.5 + 0.5 and 1 + 0.
    front = front_of([(1.0, 10.0), (0.9, 6.5), (0.8, 6.0), (0.6, 2.0)])
    assert pick("knee", front) == 6.5


@pytest.mark.parametrize("rule", ["knee", "best d_eff", "lexicographic knn_accuracy, d_eff"])
def test_an_empty_front_has_no_point_and_a_lonely_one_is_picked(rule: str) -> None:
    assert pick(rule, []) is None
    assert pick(rule, FRONT[:1]) == 100.0


def test_what_names_an_unknown_baseline_picks_nothing() -> None:
    rule = parse_pick("best d_eff subject to knn_accuracy >= 0.9 * baseline")
    assert needs_baseline(rule)
    assert choose(rule, FRONT, OBJECTIVES) is None
    assert not needs_baseline(parse_pick("knee"))


@pytest.mark.parametrize(
    ("rule", "part"),
    [
        ("elbow", "knee, best METRIC"),
        ("best", "knee, best METRIC"),
        ("best d_ef", "did you mean 'd_eff'?"),
        ("best d_eff subject to", "knee, best METRIC"),
        ("best d_eff subject to knn_accuracy", "with >= or <="),
        ("lexicographic d_eff within -1", "not a finite number from 0 on"),
        ("lexicographic d_eff within 1e999", "not a finite number from 0 on"),
        ("lexicographic d_eff within e", "is not a number"),
        ("lexicographic d_eff by 3", "METRIC within"),
        ("lexicographic d_eff,", "METRIC within"),
    ],
)
def test_what_is_no_rule_is_refused(rule: str, part: str) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        parse_pick(rule)
    assert part in str(error.value)


values = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 20)), min_size=1, max_size=12)


@given(values, st.floats(0.1, 10), st.floats(0.1, 10))
def test_a_knee_does_not_depend_on_units(drawn: list[tuple[int, int]], a: float, b: float) -> None:
    points = front_of([(float(x), float(y)) for x, y in drawn])
    kept = nondominated([point.values for point in points])
    front = [point for point, is_kept in zip(points, kept, strict=True) if is_kept]
    scaled = [Point(p.trial, 1, p.metrics, (a * p.values[0], b * p.values[1])) for p in front]
    found = [choose(parse_pick("knee"), points, OBJECTIVES) for points in (front, scaled)]

    def bulge(point: Point) -> float:
        low, high = ([f(p.values[i] for p in front) for i in range(2)] for f in (min, max))
        return sum((point.values[i] - low[i]) / ((high[i] - low[i]) or 1) for i in range(2))

    names = {p.trial: p for p in front}
    assert found[0] and found[1]
    assert bulge(names[found[0].trial]) == pytest.approx(bulge(names[found[1].trial]))
    assert bulge(names[found[0].trial]) == pytest.approx(min(map(bulge, front)))
