from __future__ import annotations

import pytest
from stories import digits_settings

from dashboards.paper_points import paper_points
from dashboards.paper_tables import read_paper
from trainables.config import TrialConfig


def config(**settings: object) -> TrialConfig:
    return TrialConfig.model_validate(settings)


def test_the_papers_numbers_are_in_our_units() -> None:
    found = paper_points(read_paper(), config(dataset="cifar100"))
    assert set(found) == {"none", "mlp", "monotonic"}
    assert found["mlp"] == pytest.approx(
        {
            "knn_accuracy": 0.7832,
            "recall_at_1": 0.7604,
            "recall_at_5": 0.8348,
            "d_eff": 78.0,
            "reconstruction_error": 0.00415,
        }
    )


def test_a_head_that_the_paper_does_not_have_has_no_point() -> None:
    assert set(paper_points(read_paper(), config(dataset="cifar10"))) == {"none", "monotonic"}


def test_pairs_have_their_correlation() -> None:
    found = paper_points(read_paper(), config(preset="paper_snli"))
    assert found["monotonic"]["spearman"] == pytest.approx(0.8125)
    assert (found["none"]["d_eff"], found["monotonic"]["d_eff"]) == (292.0, 86.0)
    assert "d_eff" not in found["untouched"]


@pytest.mark.parametrize("part", [{"num_classes": 16}, {"num_training_items": 512}])
def test_on_a_part_of_the_data_the_paper_says_nothing(part: dict[str, int]) -> None:
    assert paper_points(read_paper(), config(dataset="cifar100", data=part)) == {}


def test_on_other_data_there_are_none() -> None:
    assert paper_points(read_paper(), digits_settings().trial) == {}
