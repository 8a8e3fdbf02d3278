from __future__ import annotations

import io
import math

import numpy as np
import pytest
from front_tables import CONFIRMED, HOSTILE, SPEARMAN, THREE, pairs, row, table
from matplotlib.image import imread
from stories import small_story

from dashboards.figures.front import FrontInfo, info
from dashboards.figures.front_marks import Mark
from dashboards.front_picture import to_png
from dashboards.sweep_page import front_info, story_table
from orchestrator.front_table import FrontTable


def pixels(drawn: FrontInfo) -> np.ndarray:
    """Height, width and the colours."""
    return imread(io.BytesIO(to_png(drawn)))


def test_it_is_a_png_of_some_size() -> None:
    assert to_png(info(THREE)).startswith(b"\x89PNG\r\n\x1a\n")
    picture = pixels(info(THREE))
    assert picture.shape[0] > 400 and picture.shape[1] > 800
    assert len(set(picture.reshape(-1, picture.shape[2])[:, 0].tolist())) > 10


@pytest.mark.parametrize(
    "of",
    [
        table(),
        table(row("t", 0.9, 3.0, True), objectives={"knn_accuracy": "max"}),
        table(row("t", 0.9, 3.0, True), objectives={"d_eff": "min", "knn_accuracy": "max"}),
        table(
            {name: v for name, v in row("t", 0.9, 3.0, True).items() if not name.startswith("param.")}
        ),
    ],
    ids=["no points", "one objective", "d_eff along y", "no head parameter"],
)
def test_there_is_a_picture_of(of: FrontTable) -> None:
    assert to_png(info(of)).startswith(b"\x89PNG")


def test_means_under_further_seeds_are_in_it() -> None:
    drawn = info(CONFIRMED)
    assert to_png(drawn) != to_png(drawn._replace(confirmed=drawn.confirmed.iloc[:0]))


def test_the_picked_point_and_the_marks_are_in_it() -> None:
    drawn = info(THREE)
    marked = drawn._replace(marks=[Mark("paper", 10.0, 0.8, "mlp", "cross-open")])
    picked = drawn._replace(picked=drawn.front.iloc[:1])
    assert len({to_png(drawn), to_png(marked), to_png(picked)}) == 3


def test_the_untouched_encoder_is_not_drawn() -> None:
    values = [pairs(f"t{n}", 0.84 - n, 90.0 - n, True) for n in range(2)]
    told = [
        {**one, "test_untouched_spearman": v} for one, v in zip(values, (0.8, math.nan), strict=True)
    ]
    told_picture = to_png(info(table(*told, objectives=SPEARMAN)))
    assert told_picture == to_png(info(table(*values, objectives=SPEARMAN)))


def test_what_breaks_the_constraints_is_shaded_and_what_holds_them_is_not() -> None:
    story = small_story('constraints=["knn_accuracy >= 0.8"]')
    drawn = front_info(story, story_table(story))
    with_region, without = pixels(drawn), pixels(drawn._replace(region=None))
    changed = np.any(with_region != without, axis=2)
    height, width = changed.shape
    inside = changed[:, width // 4 : width // 2].mean(axis=1)
    assert inside[: height // 5].max() == 0 and inside[height // 2 : 3 * height // 4].min() > 0.9


@pytest.mark.parametrize("name", [HOSTILE, r"$\frac{", "_hidden"])
def test_names_are_text_and_no_formulas(name: str) -> None:
    drawn = info(table(row(name, 0.9, 3.0, True, **{"param.head.kind": name}), title=name))
    marked = drawn._replace(marks=[Mark(name, 3.0, 0.8, name, "diamond-open")])
    assert to_png(marked).startswith(b"\x89PNG")
