from __future__ import annotations

import pytest

from orchestrator.search_space import setting_names
from orchestrator.trial_settings import by_dotted_name, from_text, without_effect, without_effect_on
from trainables.config import PRESETS, TrialConfig


def test_every_setting_has_its_dotted_name() -> None:
    settings = by_dotted_name(TrialConfig().model_dump())
    assert list(settings) == setting_names()
    assert settings["optimizer.head_lr"] == 2e-4


@pytest.mark.parametrize("preset", [None, *PRESETS])
def test_from_text_inverts_str(preset: str | None) -> None:
    config = TrialConfig.model_validate({"preset": preset, "patience_epochs": None, "temperature": 0.3})
    settings = by_dotted_name(config.model_dump())
    again = from_text({name: str(value) for name, value in settings.items()})
    assert again == settings
    assert {n: type(v) for n, v in again.items()} == {n: type(v) for n, v in settings.items()}


def test_what_is_no_setting_or_no_value_stays_as_it_is() -> None:
    texts = {"dropout": "0.1", "epochs": "many", "head.kind": "convolutional"}
    assert from_text(texts) == texts


def test_a_head_that_is_none_has_neither_depth_nor_width() -> None:
    assert without_effect("none") == {"head.depth", "head.width_ratio"}
    assert without_effect("mlp") == set()


def test_settings_of_sentences_change_nothing_in_images() -> None:
    names = without_effect_on("cifar100")
    assert {"bucketing", "data.max_length"} < names <= by_dotted_name(TrialConfig().model_dump()).keys()
    assert without_effect_on("snli") == without_effect_on("of later") == set()
