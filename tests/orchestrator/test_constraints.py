from __future__ import annotations

import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.constraints import Constraints, parse_bound, parse_constraint

BASELINE = {"knn_accuracy": 0.8, "d_eff": 100.0, "recall_at_1": 0.7}
POINT = {"knn_accuracy": 0.79, "d_eff": 14.0, "recall_at_1": 0.6, "recall_at_5": 0.9}
numbers = st.floats(0.01, 100.0)


@pytest.mark.parametrize(
    ("text", "excess"),
    [
        ("knn_accuracy >= 0.79", 0.0),
        ("knn_accuracy >= 1.0", 0.21),
        ("d_eff <= 28", -0.5),
        ("d_eff <= 7", 1.0),
        ("knn_accuracy >= 0.99 * baseline", (0.792 - 0.79) / 0.792),
        ("d_eff <= baseline / 10", 0.4),
        ("d_eff <= 0.5 * (baseline + baseline.d_eff)", -0.86),
        ("knn_accuracy >= baseline.recall_at_1", -0.09 / 0.7),
        ("recall_at_5 - recall_at_1 <= 0.1 + 0.1", 0.5),
        ("d_eff / knn_accuracy <= 2 * baseline", 14 / 0.79 / 250 - 1),
        ("d_eff - 14 <= 0", 0.0),
        ("-d_eff >= -13", 1 / 13),
    ],
)
def test_the_excess_is_a_share_of_the_bound(text: str, excess: float) -> None:
    assert parse_constraint(text).excess(POINT, BASELINE) == pytest.approx(excess)


def test_a_bound_is_of_its_metric_at_the_baseline() -> None:
    assert parse_bound("1.5 * baseline", "d_eff").value({}, BASELINE) == 150.0
    assert parse_bound("baseline.recall_at_1 - 0.2", "d_eff").value({}, BASELINE) == pytest.approx(0.5)
    assert parse_bound("3", "d_eff").value({}, {}) == 3.0


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("knn_acuracy >= 0.9", "did you mean 'knn_accuracy'?"),
        ("knn_accuracy >= 0.9 * baseline.d_ef", "did you mean 'd_eff'?"),
        ("knn_accuracy > 0.9", "with >= or <="),
        ("knn_accuracy == 0.9", "with >= or <="),
        ("knn_accuracy", "with >= or <="),
        ("0.5 <= knn_accuracy <= 0.9", "as two"),
        ("0.9 <= knn_accuracy", "stand on the left"),
        ("d_eff <= encoder_d_eff", "stand on the left"),
        ("baseline.d_eff <= 3", "stand on the left"),
        ("d_eff <= __import__('os').getpid()", "numbers, metrics, baseline"),
        ("d_eff <= (1).__class__", "numbers, metrics, baseline"),
        ("d_eff <= baseline.d_eff.real", "numbers, metrics, baseline"),
        ("d_eff ** 2 <= 3", "numbers, metrics, baseline"),
        ("d_eff <= 'a'", "numbers, metrics, baseline"),
        ("d_eff <= True", "numbers, metrics, baseline"),
        ("d_eff <= 1e999", "not finite"),
        ("d_eff <= 1 / 0", "is not a finite number"),
        ("d_eff <= 0 / (2 - 2)", "is not a finite number"),
        ("d_eff <= 3; import os", "cannot be read"),
        ("", "cannot be read"),
        ("d_eff <= " + "(" * 90 + "1" + ")" * 90 + " + 0" * 10, "at most 200"),
        ("d_eff <= " + "(" * 190, "cannot be read"),
    ],
)
def test_what_is_no_constraint_is_refused(text: str, part: str) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        parse_constraint(text)
    assert part in str(error.value)


def test_a_bound_has_no_metric_of_the_point() -> None:
    with pytest.raises(ValueError, match="over the baseline"):
        parse_bound("2 * d_eff", "d_eff")
    with pytest.raises(ValueError, match="not a finite number"):
        parse_bound("0 / 0", "d_eff")


@pytest.mark.parametrize("text", ["train_loss <= 3", "d_eff / (d_eff - 14) <= 3"])
def test_what_cannot_be_judged_is_broken(text: str) -> None:
    assert parse_constraint(text).excess(POINT, BASELINE) == math.inf


def test_without_a_baseline_what_names_it_counts_as_held() -> None:
    constraints = Constraints.of(["knn_accuracy >= 2 * baseline", "d_eff <= 7"])
    assert constraints.excesses(POINT, None) == [0.0, 1.0]
    assert constraints.violation(POINT, None) == 1.0
    assert constraints.violation(POINT, BASELINE) == pytest.approx(1.0 + (1.6 - 0.79) / 1.6)


def test_a_violation_counts_only_what_is_broken() -> None:
    assert Constraints.of(["d_eff <= 1000", "d_eff <= 10"]).violation(POINT, None) == pytest.approx(0.4)
    assert Constraints().violation(POINT, None) == 0


@given(numbers, numbers, numbers, numbers)
def test_the_left_side_orders_points_as_the_excess_does(
    a: float, b: float, share: float, base: float
) -> None:
    for text in (f"d_eff <= {share} * baseline", f"d_eff >= {share} * baseline"):
        constraint = parse_constraint(text)
        points, baseline = [{"d_eff": a}, {"d_eff": b}], {"d_eff": base}
        easier = [constraint.minimised(point) for point in points]
        excess = [constraint.excess(point, baseline) for point in points]
        assert easier[0] > easier[1] or excess[0] <= excess[1]


def test_constraints_cross_to_other_processes() -> None:
    texts = ["knn_accuracy >= 0.99 * baseline"]
    again = pickle.loads(pickle.dumps(Constraints.of(texts)))
    assert again.texts() == texts
    assert again.excesses(POINT, BASELINE) == Constraints.of(texts).excesses(POINT, BASELINE)
