from __future__ import annotations

import pytest
from sweep_events import DIGITS

from orchestrator.preparation import describe_split, needs_preparation
from trainables.config import TrialConfig


@pytest.mark.parametrize(
    ("changes", "is_needed"),
    [
        (DIGITS, False),
        (DIGITS | {"encoder_weights": "weights.safetensors"}, True),
        ({"encoder": "resnet8", "encoder_weights": "none"}, True),
        ({}, True),
    ],
)
def test_only_what_comes_from_outside_is_prepared(changes: dict[str, str], is_needed: bool) -> None:
    assert needs_preparation(TrialConfig.model_validate(changes)) == is_needed


def test_split_of_another_order_is_not_called_the_papers() -> None:
    assert "the split is the paper's" in describe_split("torchvision", is_original_order=True)
    text = describe_split("/data/cifar100", is_original_order=False)
    assert "/data/cifar100" in text
    assert "another order" in text
