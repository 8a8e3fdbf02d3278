from __future__ import annotations

from typing import Any

import pytest

from dashboards.figures.recall_curve import RecallCurve, info, plot


def recalls(first: float, step: float, prefix: str = "") -> dict[str, float]:
    return {f"{prefix}recall_at_{k}": first + step * k for k in range(1, 21)}


def curve(name: str, validation: dict[str, float], test: dict[str, float]) -> RecallCurve:
    return RecallCurve(name, "none" if name == "base" else "monotonic", test, validation)


POINT = curve("point", recalls(0.5, 0.01), recalls(0.4, 0.02, "test_"))


def test_test_sets_are_compared_where_both_have_one() -> None:
    drawn = info(POINT, curve("base", recalls(0.1, 0.01), recalls(0.6, 0.01, "test_")))
    assert drawn is not None and drawn.split == "test"
    assert drawn.ks == list(range(1, 21))
    assert drawn.curves["point"] == (
        "monotonic",
        pytest.approx([100 * (0.4 + 0.02 * k) for k in drawn.ks]),
    )
    assert drawn.curves["base"][1][0] == pytest.approx(61)


def test_validation_sets_are_compared_where_the_baseline_was_not_evaluated() -> None:
    drawn = info(POINT, curve("base", recalls(0.1, 0.01), {}))
    assert drawn is not None and drawn.split == "validation"
    assert drawn.curves["point"][1][0] == pytest.approx(51)


@pytest.mark.parametrize(
    ("baseline", "expected"), [(0.2, 1), (0.455, 6), (0.6, 20), (0.601, None), (0.9, None)]
)
def test_crossover_is_the_first_k_that_stays_above(baseline: float, expected: int | None) -> None:
    # The point's recall is 40 % and 1 % more for each k.
    point = curve("point", {}, recalls(0.4, 0.01, "test_"))
    level = {f"test_recall_at_{k}": baseline - 1e-9 for k in range(1, 21)}
    drawn = info(point, curve("base", {}, level))
    assert drawn is not None and drawn.crossover == expected


def test_point_is_drawn_alone_where_there_is_no_baseline() -> None:
    for other in (None, curve("base", {}, {})):
        drawn = info(POINT, other)
        assert drawn is not None and list(drawn.curves) == ["point"]
        assert drawn.split == "test" and drawn.crossover is None


def test_point_without_recalls_is_not_drawn() -> None:
    assert info(curve("point", {"spearman": 0.8}, {}), POINT) is None


def test_names_are_escaped() -> None:
    drawn = info(curve("<i>x</i>", recalls(0, 0.01), {}), None)
    assert drawn is not None
    figure: Any = plot(drawn)
    assert figure.data[0].name == "&lt;i&gt;x&lt;/i&gt;"
