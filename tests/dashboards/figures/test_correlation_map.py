from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dashboards.figures import correlation_map
from dashboards.figures.correlation_map import info, plot


def two_blocks() -> np.ndarray:
    """Features 0, 2 and 4 are one block; 1 and 3 the other, in which r is -0.5."""
    matrix = np.equal.outer(np.arange(5) % 2, np.arange(5) % 2).astype(float)
    matrix[1, 3] = matrix[3, 1] = -0.5
    return matrix


def test_map_is_in_the_order_of_the_dendrogram_and_in_hundredths() -> None:
    drawn = info(two_blocks())
    expected = np.rint(100 * two_blocks()[np.ix_(drawn.features, drawn.features)])
    assert drawn.hundredths.dtype == np.int8
    assert np.array_equal(drawn.hundredths, expected)
    assert sorted(drawn.features) == [0, 1, 2, 3, 4] and -50 in drawn.hundredths


def test_outlines_are_squares_around_the_blocks() -> None:
    drawn = info(two_blocks())
    assert drawn.blocks.num_blocks == 2
    x, y = drawn.outline_x.reshape(2, 6), drawn.outline_y.reshape(2, 6)
    assert [np.nanmin(x), np.nanmax(x)] == [np.nanmin(y), np.nanmax(y)] == [-0.5, 4.5]
    assert np.nanmax(x[0]) == np.nanmin(x[1]) == np.nanmax(y[0])
    assert np.isnan(x[:, 5]).all()


def test_dendrogram_stands_above_its_features() -> None:
    drawn = info(two_blocks())
    brackets = drawn.tree_x.reshape(4, 5)[:, :4], drawn.tree_y.reshape(4, 5)[:, :4]
    leaves = sorted(x for x, y in zip(*(b.ravel() for b in brackets), strict=True) if y == 0)
    assert set(leaves) >= {0, 1, 2, 3, 4}
    assert np.nanmax(drawn.tree_y) == 1  # nothing in common: the distance 1 - |r|
    assert 0.5 in drawn.tree_y


def test_more_features_than_pixels_are_thinned_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(correlation_map, "_MAX_DRAWN", 3)
    drawn = info(two_blocks())
    assert drawn.hundredths.shape == (3, 3) and drawn.places.tolist() == [0, 2, 4]
    assert drawn.features.tolist() == drawn.blocks.order[::2].tolist()
    assert drawn.num_features == 5


def test_single_feature_is_drawn() -> None:
    figure: Any = plot(info(np.ones((1, 1))))
    assert figure.data[1].z.tolist() == [[100]]


def test_figure_tells_features_by_their_number() -> None:
    drawn = info(two_blocks())
    figure: Any = plot(drawn)
    assert list(figure.layout.xaxis.ticktext) == [str(feature) for feature in drawn.features]
    assert list(figure.layout.xaxis.tickvals) == [0, 1, 2, 3, 4]
