from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dashboards.figures.tsne import info, plot


def items(labels: Sequence[object], seed: int = 0) -> pd.DataFrame:
    places = np.random.default_rng(seed).normal(size=(len(labels), 2))
    return pd.DataFrame({"x": places[:, 0], "y": places[:, 1], "label": labels})


def test_labels_up_to_thirty_have_looks_of_their_own() -> None:
    drawn = info(items(list(range(30)) * 2))
    looks = set(zip(drawn.colours, drawn.symbols, strict=True))
    assert len(looks) == drawn.num_labels == 30
    assert drawn.colours[:30] == drawn.colours[30:] and drawn.symbols[:30] == drawn.symbols[30:]


@pytest.mark.parametrize(("num_labels", "num_names"), [(20, 20), (21, 0)])
def test_few_labels_are_named_in_their_midst(num_labels: int, num_names: int) -> None:
    table = items(list(range(num_labels)) * 3)
    drawn = info(table)
    assert len(drawn.names) == num_names == len(plot(drawn).layout.annotations)
    if num_names:
        midst = table.loc[table["label"] == 7, "x"].median()
        assert next(name.x for name in drawn.names if name.label == "7") == pytest.approx(midst)


def test_neighbour_share_is_counted() -> None:
    table = pd.DataFrame({"x": [0, 1, 10, 11.5, 13.5], "y": 0.0, "label": [1, 1, 2, 2, 3]})
    # The last one's nearest has another label.
    assert info(table).neighbour_share == pytest.approx(4 / 5)


def test_items_on_one_place_are_each_others_nearest() -> None:
    table = pd.DataFrame({"x": [0.0] * 4, "y": [0.0] * 4, "label": [1, 1, 1, 1]})
    assert info(table).neighbour_share == 1


def test_single_item_has_no_neighbour() -> None:
    assert info(items([3])).neighbour_share == 0


def test_label_with_markup_is_shown_as_text() -> None:
    figure: Any = plot(info(items(["<b>cat</b>"])))
    assert figure.data[0].text == ("&lt;b&gt;cat&lt;/b&gt;",)
    assert figure.layout.annotations[0].text == "<b>&lt;b&gt;cat&lt;/b&gt;</b>"
