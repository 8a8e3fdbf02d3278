import json
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from trainables.config import (
    PRESETS,
    DataConfig,
    HeadConfig,
    OptimizerConfig,
    PresetName,
    TrialConfig,
    WarmupConfig,
)
from trainables.facts import ENCODER_FACTS

DIGITS: dict[str, Any] = {
    "dataset": "digits",
    "encoder": "digits_cnn",
    "encoder_weights": "none",
    "augmentation": "none",
}


def test_config_survives_json() -> None:
    config = TrialConfig(
        head=HeadConfig(kind="mlp", depth=3, width_ratio=0.5),
        optimizer=OptimizerConfig(head_lr=1.7e-5, encoder_lr_ratio=0.1),
        warmup=WarmupConfig(epochs=2),
        patience_epochs=None,
        seed=2**32 - 1,
    )
    text = json.dumps(config.model_dump())
    assert TrialConfig.model_validate(json.loads(text)) == config
    assert TrialConfig.model_validate_json(config.model_dump_json()) == config


def test_defaults_are_the_papers_cifar100_settings() -> None:
    # The paper, appendix A: batch 256, temperature 0.1, learning rates 2e-4, 200 epochs, decay 1e-4.
    config = TrialConfig()
    assert (config.batch_size, config.temperature, config.epochs) == (256, 0.1, 200)
    assert (config.optimizer.head_lr, config.optimizer.encoder_lr) == (2e-4, 2e-4)
    assert (config.optimizer.weight_decay, config.optimizer.clip_norm) == (1e-4, 1.0)
    assert (config.warmup.epochs, config.warmup.head_lr) == (10, 1e-4)
    assert (config.validate_every, config.patience_epochs, config.seed) == (5, 20, 42)
    assert (config.head.kind, config.head.depth, config.head.width_ratio) == ("monotonic", 1, 2.0)


@pytest.mark.parametrize(
    "settings",
    [
        {"epoch": 3},
        {"head": {"depths": 1}},
        {"epochs": "3"},
        {"epochs": 2.0},
        {"temperature": float("nan")},
        {"temperature": 0.0},
        {"batch_size": 1},
        {"optimizer": {"head_lr": float("inf")}},
        {"head": {"kind": "linear"}},
        {"seed": 2**32},
        {"patience_epochs": 0},
        {"num_views": 0},
        {"precision": "fp16"},
        {"device": "tpu"},
        {"encoder_weights": ""},
        {"data": {"source": ""}},
        {"data": {"num_classes": 1}},
        {"data": {"num_training_items": 1}},
        {"preset": "paper_svhn"},
        {"preset": ["paper_cifar10"]},
        {"preset": "paper_cifar10", "optimizer": 5e-4},
    ],
    ids=str,
)
def test_senseless_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TrialConfig.model_validate(settings)


def test_config_cannot_change() -> None:
    config = TrialConfig()
    with pytest.raises(ValidationError, match="frozen"):
        config.epochs = 3
    with pytest.raises(ValidationError, match="frozen"):
        config.head.depth = 3


def test_encoder_learning_rate_is_a_multiple_of_the_heads() -> None:
    optimizer = OptimizerConfig(head_lr=2e-4, encoder_lr_ratio=1e-3)
    assert optimizer.encoder_lr == pytest.approx(2e-7, rel=1e-12)


def differing(config: TrialConfig, other: TrialConfig) -> dict[str, Any]:
    """The settings of `config` that are not those of `other`, by dotted name."""

    def flatten(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        flat: dict[str, Any] = {}
        for name, value in settings.items():
            flat |= (
                flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
            )
        return flat

    first, second = flatten(config.model_dump()), flatten(other.model_dump())
    assert first.keys() == second.keys()
    return {name: value for name, value in first.items() if value != second[name]}


def test_defaults_prepare_the_data_as_the_paper_does() -> None:
    config = TrialConfig()
    assert (config.dataset, config.encoder, config.encoder_weights) == (
        "cifar100",
        "resnet34",
        "imagenet",
    )
    assert (config.augmentation, config.num_views) == ("trivial_augment_wide", 1)
    assert (config.precision, config.compile, config.data) == ("fp32", False, DataConfig())


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("paper_cifar100", {}),
        ("paper_cifar10", {"dataset": "cifar10", "optimizer.head_lr": 5e-4}),
        ("paper_cifar100_dynamics", {"validate_every": 1, "patience_epochs": 50}),
    ],
)
def test_preset_sets_what_the_papers_run_sets(preset: PresetName, expected: dict[str, Any]) -> None:
    config = TrialConfig(preset=preset)
    assert differing(config, TrialConfig()) == {"preset": preset, "deterministic": True} | expected


def test_both_learning_rates_of_the_cifar10_preset_are_the_papers() -> None:
    optimizer = TrialConfig(preset="paper_cifar10").optimizer
    assert (optimizer.head_lr, optimizer.encoder_lr) == (5e-4, 5e-4)


def test_every_preset_is_registered_and_valid() -> None:
    assert set(PRESETS) == set(get_args(PresetName))
    assert all(TrialConfig(preset=name).preset == name for name in PRESETS)


@pytest.mark.parametrize("optimizer", [{"weight_decay": 0.5}, OptimizerConfig(weight_decay=0.5)])
def test_what_is_named_beside_a_preset_wins_also_inside_groups(
    optimizer: dict[str, Any] | OptimizerConfig,
) -> None:
    settings = {"preset": "paper_cifar10", "deterministic": False, "epochs": 7, "optimizer": optimizer}
    config = TrialConfig.model_validate(settings)
    named = {"deterministic": False, "epochs": 7, "optimizer.weight_decay": 0.5}
    found = differing(config, TrialConfig(preset="paper_cifar10"))
    assert found == named
    assert config.optimizer.head_lr == 5e-4


def test_a_default_named_beside_a_preset_wins() -> None:
    settings = {"preset": "paper_cifar10", "dataset": "cifar100", "optimizer": {"head_lr": 2e-4}}
    config = TrialConfig.model_validate(settings)
    expected = {"preset": "paper_cifar10", "deterministic": True}
    assert differing(config, TrialConfig()) == expected


def test_settings_beside_a_preset_are_checked_with_it() -> None:
    with pytest.raises(ValidationError, match="digits has 1; set encoder to digits_cnn"):
        TrialConfig(preset="paper_cifar100", dataset="digits")
    with pytest.raises(ValidationError, match=r"optimizer\.momentum"):
        TrialConfig.model_validate({"preset": "paper_cifar10", "optimizer": {"momentum": 0.9}})


@pytest.mark.parametrize("preset", [None, *PRESETS])
def test_a_dumped_configuration_validates_to_itself(preset: PresetName | None) -> None:
    config = TrialConfig(
        preset=preset, optimizer=OptimizerConfig(weight_decay=0.5), patience_epochs=None
    )
    assert TrialConfig.model_validate(config.model_dump()) == config
    assert TrialConfig.model_validate_json(config.model_dump_json()) == config
    assert TrialConfig(**dict(config)) == config


def test_presets_are_not_changed_by_their_use() -> None:
    before = json.dumps(PRESETS)
    TrialConfig.model_validate({"preset": "paper_cifar10", "optimizer": {"head_lr": 1.0}})
    assert json.dumps(PRESETS) == before


CLASHES: dict[str, tuple[dict[str, Any], str]] = {
    "grey images, colour encoder": (
        DIGITS | {"encoder": "resnet34"},
        r"encoder resnet34 takes images of 3 channel\(s\), digits has 1; set encoder to digits_cnn",
    ),
    "colour images, grey encoder": (
        {"encoder": "digits_cnn"},
        r"encoder digits_cnn .*, cifar100 has 3; set encoder to resnet34 or resnet8",
    ),
    "grey images, colour augmentation": (
        DIGITS | {"augmentation": "trivial_augment_wide"},
        "augmentation trivial_augment_wide needs colour images, .*; set augmentation to none",
    ),
    "ImageNet for resnet8": (
        {"encoder": "resnet8"},
        "no ImageNet weights for resnet8; set encoder_weights to none",
    ),
    "a source of digits": (
        DIGITS | {"data": {"source": "torchvision"}},
        r"digits comes with scikit-learn; remove data\.source",
    ),
    "too many classes": (
        {"dataset": "cifar10", "data": {"num_classes": 11}},
        r"data\.num_classes is 11, cifar10 has 10",
    ),
}


@pytest.mark.parametrize("clash", CLASHES)
def test_settings_that_clash_are_refused_with_the_way_out(clash: str) -> None:
    settings, message = CLASHES[clash]
    with pytest.raises(ValidationError, match=message) as caught:
        TrialConfig.model_validate(settings)
    assert caught.value.error_count() == 1


@pytest.mark.parametrize(
    "settings",
    [
        DIGITS,
        {"encoder": "resnet8", "encoder_weights": "none"},
        {"encoder": "resnet8", "encoder_weights": "weights.pt"},
        {"dataset": "cifar10", "data": {"num_classes": 10, "source": "torchvision"}},
        {"data": {"num_classes": 100}},
    ],
    ids=str,
)
def test_settings_that_fit_are_taken(settings: dict[str, Any]) -> None:
    config = TrialConfig.model_validate(settings)
    assert config.embedding_dim == ENCODER_FACTS[config.encoder].dim


@pytest.mark.parametrize(
    ("dataset", "data", "expected"),
    [
        ("cifar100", {}, 45_000),
        ("cifar100", {"num_classes": 10}, 4_500),
        ("cifar100", {"num_training_items": 2_000}, 2_000),
        ("cifar10", {"num_classes": 2, "num_training_items": 8_999}, 8_999),
        ("cifar10", {"num_classes": 2, "num_training_items": 9_001}, 9_000),
    ],
)
def test_number_of_training_items_follows_classes_and_limit(
    dataset: str, data: dict[str, int], expected: int
) -> None:
    config = TrialConfig.model_validate({"dataset": dataset, "data": data})
    assert config.num_training_items == expected


def test_number_of_training_items_of_digits_is_known() -> None:
    assert TrialConfig.model_validate(DIGITS).num_training_items == 1197
    few = TrialConfig.model_validate(DIGITS | {"data": {"num_classes": 5}})
    assert few.num_training_items == round(1197 / 2)


SENTENCES = {"preset": "paper_snli"}


def test_snli_preset_is_the_papers_run() -> None:
    config = TrialConfig.model_validate(SENTENCES)
    assert (config.dataset, config.encoder, config.embedding_dim) == ("snli", "transformer", 384)
    assert config.optimizer.encoder_lr == pytest.approx(2e-7) and config.optimizer.head_lr == 2e-4
    assert (config.temperature, config.batch_size, config.epochs) == (0.05, 128, 40)
    assert (config.warmup.epochs, config.validate_every, config.patience_epochs) == (1, 1, 10)
    assert (config.data.max_length, config.task) == (128, "similarity")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"dataset": "cifar100"},
            "encoder transformer takes sentences, cifar100 has images of 3 channel",
        ),
        (
            {"encoder": "resnet8"},
            "resnet8 takes images of 3 channel.*, snli has sentences; set encoder to tr",
        ),
        ({"augmentation": "trivial_augment_wide"}, "needs colour images, snli has none"),
        (
            {"encoder_weights": "imagenet"},
            "no ImageNet weights for transformer; set encoder_weights to sent",
        ),
        ({"encoder_weights": "none"}, "a transformer is what its weights say"),
        ({"num_views": 2}, "the two sentences of a pair are its views, set it to 1"),
        ({"compile": True}, "set compile to false for sentences"),
        ({"data": {"num_classes": 3}}, "snli has no classes; remove it"),
        ({"data": {"image_size": 32}}, "data.image_size is for an image_folder, not for snli"),
        ({"data": {"num_training_items": 200_000}}, "num_training_items is 200000, snli has 183416"),
        (
            {"dataset": "sentence_pairs"},
            "sentence_pairs is data of your own; set data.source to the file",
        ),
    ],
)
def test_settings_that_do_not_fit_sentences_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrialConfig.model_validate(SENTENCES | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder_dim": 512}, "encoder_dim is a transformer's; resnet34 is 512 wide, remove it"),
        (
            {"data": {"scored_pairs": "x"}},
            "scored_pairs are for pairs of sentences, cifar100 has images",
        ),
        ({"dataset": "image_folder"}, "image_folder is data of your own; set data.source to the folder"),
    ],
)
def test_settings_of_sentences_do_not_fit_images(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrialConfig.model_validate(changes)


def test_number_of_own_items_is_not_known_before_they_are_read() -> None:
    own = SENTENCES | {"dataset": "sentence_pairs", "data": {"source": "pairs.csv"}}
    assert TrialConfig.model_validate(own).num_training_items is None
    few = own | {"data": {"source": "pairs.csv", "num_training_items": 7}}
    assert TrialConfig.model_validate(few).num_training_items == 7
