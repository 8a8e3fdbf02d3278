from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from dashboards.figures.truncation_curve import info, plot


def images(components: list[int]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "components": components,
            "num_queries": 300,
            "knn_accuracy": [k / 100 for k in components],
            "recall_dot_at_1": 0.1,
            "recall_cosine_at_1": 0.2,
            "recall_euclidean_at_1": 0.3,
        }
    )


def test_accuracies_of_images_are_in_percent() -> None:
    drawn = info(images([1, 2, 3]), full=0.5, d_eff=2)
    assert drawn.curves["knn_accuracy"] == pytest.approx([1, 2, 3])
    assert drawn.curves["recall_dot_at_1"] == pytest.approx([10, 10, 10])
    assert drawn.full == 50 and drawn.is_whole
    assert len(drawn.curves) == 4


def test_table_of_the_papers_sizes_is_drawn_by_rising_size() -> None:
    drawn = info(images([64, 16, 8]), full=None, d_eff=None)
    assert drawn.components == [8, 16, 64]
    assert drawn.curves["knn_accuracy"] == pytest.approx([8, 16, 64])
    assert not drawn.is_whole
    figure: Any = plot(drawn)
    assert figure.data[0].mode == "lines+markers"


def test_correlations_of_pairs_stay_as_they_are() -> None:
    table = pd.DataFrame(
        {"components": [1, 2], "spearman_cosine": [-0.1, 0.8], "spearman_euclidean": 0.5}
    )
    drawn = info(table, full=0.8, d_eff=2)
    assert drawn.curves == {"spearman_euclidean": [0.5, 0.5], "spearman_cosine": [-0.1, 0.8]}
    assert drawn.full == 0.8 and "Spearman" in drawn.label


def test_d_eff_and_the_whole_embedding_are_lines() -> None:
    figure: Any = plot(info(images([1, 2, 3]), full=0.5, d_eff=2))
    lines = {(shape.x0, shape.y0) for shape in figure.layout.shapes}
    assert lines == {(0, 50), (2, 0)}
    assert "d_eff 2" in {annotation.text for annotation in figure.layout.annotations}
    place = next(a.x for a in figure.layout.annotations if a.text == "d_eff 2")
    assert place == pytest.approx(math.log10(2))


def test_what_is_not_known_is_not_drawn() -> None:
    assert not plot(info(images([1, 2]), full=None, d_eff=None)).layout.shapes
