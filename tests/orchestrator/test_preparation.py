from __future__ import annotations

from typing import Any

import pytest
from sweep_events import DIGITS, settings_of

from orchestrator.environment import DATA_DIGEST
from orchestrator.preparation import (
    DataFacts,
    _facts,
    _name,
    _refusal,
    describe_data,
    needed_by,
    sentences,
)

CIFAR = {"encoder": "resnet8", "encoder_weights": "none"}
OWN = CIFAR | {"dataset": "image_folder", "data": {"source": "/photographs"}}


@pytest.mark.parametrize(
    ("trial", "is_needed"),
    [
        (DIGITS, False),
        (DIGITS | {"encoder_weights": "weights.safetensors"}, True),
        (CIFAR, True),
        (OWN, True),
        ({}, True),
    ],
)
def test_only_what_comes_from_outside_is_prepared(trial: dict[str, Any], is_needed: bool) -> None:
    assert bool(needed_by(settings_of(trial=trial))) == is_needed


def test_all_that_varies_is_prepared_once() -> None:
    space = {
        "dataset": {"choice": ["cifar10", "cifar100"]},
        "encoder_weights": {"choice": ["none", "a.safetensors"], "when": {"dataset": ["cifar100"]}},
        "temperature": {"uniform": [0.1, 0.2]},
        "head.depth": {"choice": [1, 2, 3]},
    }
    configs = needed_by(settings_of(trial=CIFAR, search_space=space))
    assert sorted((config.dataset, config.encoder_weights) for config in configs) == [
        ("cifar10", "none"),
        ("cifar100", "a.safetensors"),
        ("cifar100", "none"),
    ]


def test_own_images_are_prepared_at_every_size() -> None:
    space = {"data.image_size": {"choice": [16, 32]}, "temperature": {"uniform": [0.1, 0.2]}}
    configs = needed_by(settings_of(trial=OWN, search_space=space))
    assert [config.data.image_size for config in configs] == [16, 32]


@pytest.mark.parametrize(
    ("message", "space", "place"),
    [
        ("data.source: /photographs has no folders in it", {}, ("trial", "data", "source")),
        ("data.num_classes is 9, and there are 3", {}, ("trial", "data", "num_classes")),
        (
            "data.source: /photographs has no folders in it",
            {"data.source": {"choice": ["/a", "/photographs"]}},
            ("search_space", "data.source"),
        ),
    ],
)
def test_a_refusal_has_the_place_of_its_setting(
    message: str, space: dict[str, Any], place: tuple[str, ...]
) -> None:
    space = space or {"temperature": {"uniform": [0.1, 0.2]}}
    assert _refusal(message, settings_of(trial=OWN, search_space=space)).location == place


def test_split_of_another_order_is_not_called_the_papers() -> None:
    original = DataFacts("torchvision", True).sentence()
    assert original.endswith("the split is the paper's")
    other = DataFacts("/data/cifar100", False).sentence()
    assert "/data/cifar100" in other
    assert "another order" in other


SNLI = {"preset": "paper_snli"}


def test_data_of_sentences_is_read_with_every_encoder_whose_tokens_it_becomes() -> None:
    space = {
        "encoder_weights": {"choice": ["a/one", "a/two"]},
        "data.scored_pairs": {"choice": ["a/stsb", "b/stsb"]},
        "temperature": {"uniform": [0.1, 0.2]},
    }
    configs = needed_by(settings_of(trial=SNLI, search_space=space))
    wanted = {(config.encoder_weights, config.data.scored_pairs) for config in configs}
    assert wanted == {(w, s) for w in ("a/one", "a/two") for s in ("a/stsb", "b/stsb")}


def test_split_that_no_order_decides_is_not_spoken_of() -> None:
    assert DataFacts("pairs.csv, scored pairs from x").sentence() == (
        "data from pairs.csv, scored pairs from x"
    )


@pytest.mark.parametrize(
    ("orders", "tag"),
    [
        ([True], "original"),
        ([True, False], "of the source"),
        ([None], None),
        ([None, True], "original"),
        ([], None),
    ],
)
def test_an_order_is_recorded_where_one_has_a_say(orders: list[bool | None], tag: str | None) -> None:
    tags = describe_data([DataFacts("a", order) for order in orders])
    assert tags.get("data_order") == tag
    assert ("data" in tags) == bool(orders)


def test_every_reading_has_its_digest_and_a_source_is_told_once() -> None:
    sizes = [DataFacts("/photographs", None, f"at {size}", f"{size}") for size in (16, 32)]
    tags = describe_data(sizes)
    assert sentences(sizes) == [tags["data"]] == ["data from /photographs"]
    assert {n: v for n, v in tags.items() if n != "data"} == {
        f"{DATA_DIGEST}at 16": "16",
        f"{DATA_DIGEST}at 32": "32",
    }


def test_a_reading_is_named_after_the_settings_that_decide_it() -> None:
    space = {
        "data.num_training_items": {"choice": [100, 200]},
        "data.max_length": {"choice": [32, 64]},
        "temperature": {"uniform": [0.1, 0.2]},
    }
    trial = SNLI | {"data": {"source": "/a/pairs.csv"}, "encoder_weights": "a/one"}
    names = {_name(config) for config in needed_by(settings_of(trial=trial, search_space=space))}
    assert names == {
        f"dataset snli, data.source /a/pairs.csv, data.max_length {length}, encoder_weights a/one"
        for length in (32, 64)
    }


def test_what_comes_with_the_code_has_no_facts() -> None:
    few_of_some = {"num_training_items": 100, "num_classes": 3}
    (config,) = needed_by(settings_of(trial=DIGITS | {"data": few_of_some}))
    assert _facts(config) is None


@pytest.mark.parametrize("data", [{}, {"num_training_items": 100}, {"num_classes": 3}])
def test_what_the_settings_know_all_about_is_not_read(data: dict[str, int]) -> None:
    assert needed_by(settings_of(trial=DIGITS | {"data": data})) == []
