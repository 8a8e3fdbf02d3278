from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from dashboards.figures.spectrum import info, plot
from trainables.metrics import effective_dimension, spectrum
from trainables.spectra import spectrum_table


def table(**variances: list[float]) -> pd.DataFrame:
    return spectrum_table({stage: torch.tensor(v).double() for stage, v in variances.items()})


def test_shares_are_of_the_stages_own_variance() -> None:
    (drawn,) = info(table(embedding=[6.0, 3.0, 1.0, 0.0]))
    assert drawn.shares[:3] == pytest.approx([0.6, 0.3, 0.1])
    assert drawn.cumulative == pytest.approx([0.6, 0.9, 1, 1])
    assert np.isnan(drawn.shares[3])  # no place on a logarithmic axis


@pytest.mark.parametrize(
    ("variances", "d_eff"),
    [([1.0, 0.0], 1), ([98.9, 1.1], 2), ([99.1, 0.9], 1), ([1.0] * 100, 99), ([0.0, 0.0], 1)],
)
def test_d_eff_is_where_99_percent_are_held(variances: list[float], d_eff: int) -> None:
    assert info(table(embedding=variances))[0].d_eff == d_eff


def test_d_eff_is_that_of_the_metrics() -> None:
    vectors = torch.randn(300, 40, generator=torch.Generator().manual_seed(0)) * 0.8 ** torch.arange(40)
    drawn = info(spectrum_table({"embedding": spectrum(vectors).variances}))
    assert drawn[0].d_eff == effective_dimension(vectors)


def test_stages_come_in_their_order() -> None:
    drawn = info(table(untouched=[1.0], embedding=[1.0], encoder=[1.0]))
    assert [part.stage for part in drawn] == ["encoder", "embedding", "untouched"]


def test_d_eff_is_marked_on_each_curve() -> None:
    figure: Any = plot(info(table(encoder=[50.0, 49.5, 0.5], embedding=[99.5, 0.5, 0.0])))
    markers = [trace for trace in figure.data if trace.mode == "markers"]
    assert [(m.x[0], m.y[0]) for m in markers] == [(2, pytest.approx(99.5)), (1, pytest.approx(99.5))]
