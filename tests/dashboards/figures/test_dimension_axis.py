from __future__ import annotations

from dashboards.figures.dimension_axis import dimension_axis


def test_ticks_are_whole_and_written_out() -> None:
    axis = dimension_axis("k")
    assert (axis["title"], axis["type"]) == ({"text": "k"}, "log")
    assert axis["tickvals"][:5] == [1, 2, 5, 10, 20]
    assert axis["ticktext"] == [str(tick) for tick in axis["tickvals"]]
