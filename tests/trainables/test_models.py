from typing import get_args

import pytest
import torch
from short_trials import digits_trial

from trainables.config import HeadConfig, HeadKind
from trainables.encoders import IMAGE_ENCODERS, build_image_encoder
from trainables.facts import ENCODER_FACTS, EncoderKind
from trainables.heads import HEADS, build_head
from trainables.models import build_model
from trainables.randomness import derive_seed

ITEM_SHAPES: dict[EncoderKind, tuple[int, ...]] = {
    "digits_cnn": (1, 8, 8),
    "resnet8": (3, 32, 32),
    "resnet34": (3, 32, 32),
}
"""The shape of the items that each encoder takes; a new encoder is entered here."""


def test_every_encoder_is_registered_and_has_a_width() -> None:
    assert set(get_args(EncoderKind)) == set(ENCODER_FACTS)
    of_images = {kind for kind, facts in ENCODER_FACTS.items() if facts.num_channels}
    assert set(IMAGE_ENCODERS) == set(ITEM_SHAPES) == of_images


@pytest.mark.parametrize("kind", IMAGE_ENCODERS)
def test_encoder_is_as_wide_as_announced(kind: EncoderKind) -> None:
    encoded = build_image_encoder(kind)(torch.rand(3, *ITEM_SHAPES[kind]))
    assert encoded.shape == (3, ENCODER_FACTS[kind].dim)
    assert encoded.isfinite().all()


@pytest.mark.parametrize("kind", HEADS)
def test_embedding_is_the_normalised_head_of_the_encoder(kind: HeadKind) -> None:
    model = build_model(digits_trial(head=HeadConfig(kind=kind))).eval()
    items = torch.rand(6, 1, 8, 8)
    features = model.features(items)
    projected = model.head(model.encoder(items))
    assert torch.equal(features.encoded, model.encoder(items))
    assert torch.equal(features.projected, projected)
    torch.testing.assert_close(features.embedding, projected / projected.norm(dim=1, keepdim=True))
    assert torch.equal(model(items), features.embedding)


def test_every_head_starts_from_the_same_encoder() -> None:
    encoders = [
        build_model(digits_trial(head=HeadConfig(kind=kind))).encoder.state_dict() for kind in HEADS
    ]
    for encoder in encoders[1:]:
        assert all(torch.equal(encoder[name], tensor) for name, tensor in encoders[0].items())


def test_head_draws_from_a_stream_of_its_own() -> None:
    config = digits_trial(seed=3)
    torch.manual_seed(derive_seed(3, "head initialisation"))
    expected = build_head(config.head, config.embedding_dim).state_dict()
    got = build_model(config).head.state_dict()
    assert all(torch.equal(got[name], tensor) for name, tensor in expected.items())


def test_model_depends_on_the_trials_seed_only() -> None:
    torch.manual_seed(0)
    first = build_model(digits_trial(seed=1)).state_dict()
    again = build_model(digits_trial(seed=1)).state_dict()
    other = build_model(digits_trial(seed=2)).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["encoder.0.weight"], other["encoder.0.weight"])
    assert not torch.equal(first["head.0.weight"], other["head.0.weight"])


def test_building_a_model_leaves_the_callers_random_state_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(4)
    torch.manual_seed(0)
    build_model(digits_trial())
    assert torch.equal(torch.rand(4), expected)
