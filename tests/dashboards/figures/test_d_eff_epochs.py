from __future__ import annotations

from typing import Any

from dashboards.figures.d_eff_epochs import info, plot
from dashboards.figures.stages import STAGE_COLOURS
from orchestrator.trials import Point


def points() -> list[Point]:
    values = [(5, 60.0, 2.0, 3.0), (10, 61.0, 4.0, 5.0)]
    names = ("encoder_d_eff", "unnormalized_d_eff", "d_eff")
    return [Point("trial-0000", e, dict(zip(names, rest, strict=True)), (0.0,)) for e, *rest in values]


def test_each_stage_has_its_curve() -> None:
    drawn = info(points(), 10)
    assert drawn.epochs == [5, 10] and drawn.epoch == 10
    assert drawn.values == {
        "encoder_d_eff": [60, 61],
        "unnormalized_d_eff": [2, 4],
        "d_eff": [3, 5],
    }


def test_stage_that_was_not_measured_is_left_out() -> None:
    (first, second) = points()
    partial = Point("trial-0000", 5, {"d_eff": first.metrics["d_eff"]}, (0.0,))
    drawn = info([partial, second], 5)
    assert list(drawn.values) == ["d_eff"]
    figure: Any = plot(drawn)
    assert figure.data[0].line.color == STAGE_COLOURS["embedding"]


def test_epoch_is_marked_on_a_logarithmic_axis() -> None:
    figure: Any = plot(info(points(), 10))
    assert [shape.x0 for shape in figure.layout.shapes] == [10]
    assert figure.layout.yaxis.type == "log"
    assert [trace.name for trace in figure.data] == [
        "encoder's output", "head's output before L2", "embedding"
    ]  # fmt: skip
