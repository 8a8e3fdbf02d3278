from __future__ import annotations

import pytest
from front_tables import THREE, table
from hypothesis import given
from hypothesis import strategies as st

from dashboards.figures.axes import Axis, drawn_axis, log_ticks, objective_axes, steps


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([3.0, 40.0], [2, 5, 10, 20, 50]),
        ([1.0, 1000.0], [0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000]),
        ([59.0, 289.0], [30, 40, 50, 60, 80, 100, 150, 200, 300, 400, 500]),
        ([2.0], [1, 1.5, 2, 3, 4]),
        ([0.0, -3.0], [0.5, 1, 2, 5, 10, 20]),
    ],
)
def test_ticks_are_round_and_go_as_far_again(values: list[float], ticks: list[float]) -> None:
    assert log_ticks(values) == pytest.approx(ticks)


@given(st.lists(st.floats(1e-6, 1e6), min_size=1))
def test_at_least_two_ticks_are_around_any_values(values: list[float]) -> None:
    ticks = log_ticks(values)
    assert sum(min(values) / 2 <= tick <= 2 * max(values) for tick in ticks) == len(ticks) >= 2


def test_the_second_objective_is_along_x() -> None:
    x, y = objective_axes(THREE)
    assert (x.metric, x.logarithmic, x.direction) == ("d_eff", True, "min")
    assert (y.metric, y.logarithmic, y.direction) == ("knn_accuracy", False, "max")


def test_one_objective_is_over_epochs() -> None:
    x, y = objective_axes(table(objectives={"d_eff": "min"}))
    assert (x, y.metric) == (Axis("epoch", "epoch", False, None), "d_eff")


def test_labels_are_text_and_a_linear_axis_has_plotlys_ticks() -> None:
    drawn = drawn_axis(Axis("m", "<a href='x'>", False, "max"), [1.0])
    assert drawn == {"title_text": "&lt;a href=&#x27;x&#x27;&gt;", "title_standoff": 8}


def test_a_value_holds_up_to_the_next_one_on_the_worse_side() -> None:
    assert steps(Axis("m", "", False, "min")) == "hv"
    assert steps(Axis("m", "", False, "max")) == "vh"
