from __future__ import annotations

from typing import Any

import pytest
from compared_stories import story
from stories import digits_settings

from dashboards.figures import front, two_fronts
from dashboards.figures.front import FrontInfo
from dashboards.sweep_page import story_table
from orchestrator.settings import SweepSettings

HOSTILE = "<script>hostile()</script>"


def drawn(*trials: tuple[float, float], settings: SweepSettings | None = None) -> FrontInfo:
    of = story(*trials, settings=settings)
    return front.info(story_table(of), of.record.front)


def info(labels: tuple[str, str] = ("A", "B")) -> two_fronts.TwoFrontsInfo:
    first = drawn((0.9, 40.0), (0.5, 4.0), (0.4, 20.0))
    return two_fronts.info((first, drawn((0.8, 30.0))), labels)


def test_each_side_has_its_front_in_order_and_the_rest_apart() -> None:
    first, second = info().sides
    assert first.front[["x", "y"]].values.tolist() == [[4.0, 0.5], [40.0, 0.9]]
    assert first.front["trial"].tolist() == ["trial-0001", "trial-0000"]
    assert first.others.values.tolist() == [[20.0, 0.4]]
    assert (second.front["x"].tolist(), len(second.others)) == ([30.0], 0)


def test_objectives_in_another_order_make_the_same_front() -> None:
    trials = ((0.4, 40.0), (0.9, 4.0), (0.7, 20.0))
    others = ("reference_point={knn_accuracy: 1.0}", "pick=null")
    orders = ("objectives={knn_accuracy: min, d_eff: min}", "objectives={d_eff: min, knn_accuracy: min}")
    fronts = [drawn(*trials, settings=digits_settings(order, *others)) for order in orders]
    first, second = two_fronts.info((fronts[0], fronts[1]), ("A", "B")).sides
    places = [side.front[["x", "y"]].values.tolist() for side in (first, second)]
    assert places == [[[4.0, 0.9], [20.0, 0.7], [40.0, 0.4]]] * 2


def test_the_ticks_are_those_of_both() -> None:
    assert info().ticks == [2.0, 5.0, 10.0, 20.0, 50.0]


def test_each_front_has_a_colour_and_a_symbol_of_its_own() -> None:
    traces: list[Any] = list(two_fronts.plot(info()).data)[2:]
    assert [trace.name for trace in traces] == ["A", "B"]
    assert len({trace.marker.color for trace in traces}) == 2
    assert len({trace.marker.symbol for trace in traces}) == 2
    assert {trace.line.shape for trace in traces} == {"hv"}


def test_names_are_escaped() -> None:
    text = two_fronts.plot(info((HOSTILE, "B"))).to_json()
    assert "<script" not in str(text).replace("\\u003c", "<")


def test_a_sweep_without_points_is_drawn_as_nothing() -> None:
    empty = two_fronts.info((drawn(), drawn((0.8, 30.0))), ("A", "B"))
    assert len(empty.sides[0].front) == 0
    traces: list[Any] = list(two_fronts.plot(empty).data)
    assert [len(trace.x) for trace in traces] == [0, 0, 0, 1]


def test_only_so_many_other_points_are_drawn_and_the_whole_front(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(two_fronts, "MAX_OTHERS", 3)
    worse = [(0.5 - 0.01 * n, 40.0 + n) for n in range(8)]
    many = two_fronts.info((drawn((0.9, 40.0), (0.8, 4.0), *worse), drawn()), ("A", "B"))
    assert len(many.sides[0].front) == 2
    assert 2 <= len(many.sides[0].others) <= 3
