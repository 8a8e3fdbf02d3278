import json
from typing import Any

import pytest
from pydantic import ValidationError

from trainables.config import HeadConfig, OptimizerConfig, TrialConfig, WarmupConfig


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
