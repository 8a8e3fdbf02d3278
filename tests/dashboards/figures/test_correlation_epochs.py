from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dashboards.feature_blocks import feature_blocks
from dashboards.figures.correlation_epochs import info, plot


def trace(seed: int, dim: int = 6) -> dict[str, np.ndarray]:
    source = np.random.default_rng(seed)
    names = ("embedding", "encoder", "unnormalized")
    return {name: np.asarray(np.corrcoef(source.normal(size=(dim, 5))), np.float16) for name in names}


@pytest.mark.parametrize(
    ("known", "chosen"),
    [([5], [5]), ([5, 10], [5, 10]), ([5, 10, 20], [5, 10, 20]), ([40, 5, 10, 20, 80], [5, 20, 80])],
)
def test_first_middle_and_last_epoch_are_chosen(known: list[int], chosen: list[int]) -> None:
    drawn = info({epoch: trace(epoch) for epoch in known})
    assert drawn.epochs == chosen
    assert drawn.stages == ["encoder", "unnormalized", "embedding"]
    assert [(small.stage, small.epoch) for small in drawn.maps] == [
        (stage, epoch) for stage in drawn.stages for epoch in chosen
    ]


def test_each_map_is_clustered_by_itself() -> None:
    traces = {5: trace(1), 10: trace(2)}
    for small in info(traces).maps:
        matrix = traces[small.epoch][small.stage].astype(float)
        blocks = feature_blocks(matrix)
        ordered = matrix[np.ix_(blocks.order, blocks.order)]
        assert np.array_equal(small.hundredths, np.rint(100 * ordered))
        assert (small.rms, small.modularity) == (blocks.rms, blocks.modularity)


def test_wide_maps_are_thinned_out_and_their_numbers_are_not() -> None:
    wide = {5: trace(1, dim=300)}
    drawn = info(wide)
    assert drawn.every == 3
    assert {small.hundredths.shape for small in drawn.maps} == {(100, 100)}
    assert drawn.maps[0].rms == feature_blocks(wide[5]["encoder"]).rms


def test_stage_that_is_nowhere_has_no_row() -> None:
    drawn = info({5: {"embedding": np.eye(3)}, 10: {"embedding": np.eye(3), "encoder": np.eye(4)}})
    assert drawn.stages == ["encoder", "embedding"]
    assert len(drawn.maps) == 3


def test_all_maps_share_one_scale_of_colours() -> None:
    figure: Any = plot(info({5: trace(1), 10: trace(2)}))
    assert len(figure.data) == 6
    assert {heatmap.coloraxis for heatmap in figure.data} == {"coloraxis"}
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (-100, 100)
    assert len({heatmap.xaxis for heatmap in figure.data}) == 6
