import json
import math
from pathlib import Path

import pytest
import torch
from tiny_sentences import WIDTH, WORDS, write_csv, write_scored_pairs, write_transformer

from trainables import bench_sentences
from trainables.bench_rows import Row, Spread
from trainables.bench_sentence_sides import (
    EqualRows,
    OurSentences,
    padding_share,
    read_pairs,
    through_transformer,
)
from trainables.config import DataConfig, TrialConfig
from trainables.losses import supcon_loss
from trainables.plain_sentences import PlainSentences
from trainables.sentence_sources import find_source
from trainables.sentences import SentenceDataset, Sentences, load_sentences
from trainables.validation import embed

CPU = torch.device("cpu")
LENGTHS = [(3, 12), (12, 3), (3, 3), (12, 12), (3, 12), (12, 3)]
"""Tokens of the two sentences of each pair to train on."""


def sentence(length: int, number: int) -> str:
    """Of so many tokens, the two that every sentence has included."""
    return " ".join(WORDS[(number + place) % len(WORDS)] for place in range(length - 2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny transformer, pairs, and scored pairs."""
    folder = tmp_path_factory.mktemp("sentences")
    write_transformer(folder / "tiny")
    rows = [(sentence(a, 2 * n), sentence(b, 2 * n + 1)) for n, (a, b) in enumerate(LENGTHS)]
    write_csv(folder / "pairs.csv", ("sentence1", "sentence2"), rows)
    write_scored_pairs(folder / "scored.csv")
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONOCON_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def trial(folder: Path) -> TrialConfig:
    data = DataConfig(
        source=str(folder / "pairs.csv"), scored_pairs=str(folder / "scored.csv"), num_training_items=6
    )
    weights = str(folder / "tiny")
    return TrialConfig(
        preset="paper_snli",
        dataset="sentence_pairs",
        data=data,
        encoder_weights=weights,
        encoder_dim=WIDTH,
        batch_size=6,
        device="cpu",
    )


@pytest.fixture
def data(trial: TrialConfig) -> SentenceDataset:
    return load_sentences(trial, CPU)


@pytest.fixture
def plain(trial: TrialConfig) -> PlainSentences:
    source = find_source("--source", str(trial.data.source))
    return PlainSentences(trial, read_pairs(trial, source), CPU)


@pytest.mark.parametrize("bucketing", [True, False])
def test_loss_and_gradients_of_the_plain_loop_are_ours(
    trial: TrialConfig, data: SentenceDataset, plain: PlainSentences, bucketing: bool
) -> None:
    ours = OurSentences(trial, data.training, bucketing)
    model = ours.placed.model.eval()  # without dropout
    (batch,) = ours.batches.epoch()
    loss = supcon_loss(model(batch.items), batch.labels, trial.temperature).loss
    loss.backward()
    plain.train(False)
    (rows,) = plain.batches()
    assert torch.equal(rows.repeat(2), batch.labels)
    plains = plain.loss(rows)
    plains.backward()
    torch.testing.assert_close(plains, loss, rtol=1e-5, atol=1e-6)
    gradients = [p.grad for p in (*ours.encoder.model.parameters(), *model.head.parameters())]
    assert len(gradients) == len(plain.parameters()) > 20
    for mine, parameter in zip(gradients, plain.parameters(), strict=True):
        torch.testing.assert_close(mine, parameter.grad, rtol=1e-4, atol=1e-5)


def test_epochs_of_the_plain_loop_are_ours_without_dropout(tmp_path: Path, trial: TrialConfig) -> None:
    weights = write_transformer(tmp_path / "without_dropout", dropout=0.0)
    smaller = trial.model_copy(update={"batch_size": 2, "encoder_weights": str(weights)})
    source = find_source("--source", str(trial.data.source))
    plain = PlainSentences(smaller, read_pairs(trial, source), CPU)
    ours = OurSentences(smaller, load_sentences(smaller, CPU).training, bucketing=True)
    losses = [(plain.train_epoch(), ours.train_epoch()) for _ in range(3)]
    for plains, mine in losses:
        assert plains == pytest.approx(mine, rel=1e-5)
    assert losses[2][0] != pytest.approx(losses[0][0], rel=1e-4)


def test_embeddings_of_the_plain_loops_are_ours(
    trial: TrialConfig, data: SentenceDataset, plain: PlainSentences
) -> None:
    ours = embed(
        OurSentences(trial, data.training, bucketing=True).placed.model, data.training
    ).embedding
    texts = sorted({*plain.texts(torch.arange(6))})
    for found in (plain.embed(texts, 4), plain.embed_sorted(texts, 4)):
        torch.testing.assert_close(found, ours, rtol=1e-4, atol=1e-5)


def test_padding_shares_are_the_closed_form_of_the_lengths(
    trial: TrialConfig, data: SentenceDataset, plain: PlainSentences
) -> None:
    """Six sentences of 3 tokens and six of 12: padded to 12 each, or in two buckets without padding."""
    expected = 1 - (6 * 3 + 6 * 12) / (12 * 12)
    for bucketing, share in ((True, 0.0), (False, expected)):
        ours = OurSentences(trial, data.training, bucketing)
        (batch,) = ours.batches.epoch()
        model = ours.encoder.model
        assert padding_share(ours.encoder, lambda o=ours, b=batch: o.encoder(b.items)) == share
        assert ours.encoder.model is model
    (rows,) = plain.batches()
    texts = plain.texts(rows)
    assert padding_share(plain, lambda: plain.forward(texts)) == expected
    assert padding_share(plain, lambda: plain.embed(texts, 12)) == expected
    assert padding_share(plain, lambda: plain.embed_sorted(texts, 6)) == 0


def test_rows_of_the_floor_have_as_many_tokens(data: SentenceDataset, plain: PlainSentences) -> None:
    lengths = torch.tensor([3, 5, 7])
    sentences = Sentences(torch.arange(2, 17).int(), lengths.cumsum(0) - lengths, lengths, 0)
    rows = EqualRows.of(sentences, max_rows=2)
    assert rows.tokens.tolist() == [[2, 3, 4, 5, 6], [7, 8, 9, 10, 11]]
    assert rows.extrapolated_s(2.0) == 3.0
    for training in (True, False):
        through_transformer(plain.model, rows, 1, training)
        assert plain.model.training == training
        assert all(parameter.grad is None for parameter in plain.model.parameters())


def test_no_padding_has_no_ratio() -> None:
    row = Row("padding", "share", Spread.of([0.0]), Spread.of([0.5]), None, "")
    assert row.ratio is None and row.cells()[2:5] == ("0", "0.5", "-")


@pytest.mark.slow
def test_command_writes_every_figure(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = {
        "--source": folder / "pairs.csv",
        "--scored-pairs": folder / "scored.csv",
        "--encoder-weights": folder / "tiny",
        "--json": tmp_path / "bench.json",
    }
    named = [word for name, path in paths.items() for word in (name, str(path))]
    tiny = "--dataset sentence_pairs --encoder-dim 24 --items 6 --batch-size 4 --repeats 1 --device cpu"
    assert bench_sentences.main([*tiny.split(), *named]) == 0
    printed = capsys.readouterr().out
    figures = {row["figure"]: row for row in json.loads((tmp_path / "bench.json").read_text())["rows"]}
    beginnings = {
        *("data once a node", "data from the cache", "tokenisation"),
        *("training, bucketing", "training, bucketing off"),
        *("embedding test against plain", "embedding test against sorted plain"),
        *("embedding training against plain", "embedding training against sorted plain"),
        *("padding, training, bucketing", "padding, training, bucketing off"),
        *("padding, embedding test, plain", "padding, embedding test, sorted plain"),
        *("padding, embedding training, plain", "padding, embedding training, sorted plain"),
    }
    for beginning in beginnings:
        assert any(name.startswith(beginning) for name in figures), beginning
    for name, row in figures.items():
        assert name in printed
        timed = name.startswith(("training", "embedding"))
        values = [*row["ours"].values(), *([row["floor"], row["gap"], row["ratio"]] if timed else [])]
        assert all(math.isfinite(value) and (value > 0 or row["unit"] == "share") for value in values), (
            row
        )
    assert "128" not in printed.split("batch ")[1][:3] and "times are wall times" in printed


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--batch-size", "64", "--items", "32"], "--items 32"),
        (["--clock", "cpu", "--threads", "2"], "one thread"),
        (["--dataset", "sentence_pairs"], "data.source"),
        (["--encoder-weights", "none"], "encoder_weights"),
        (["--json", "no/such/folder/x.json"], "--json"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refusal:
        bench_sentences.main(["--device", "cpu", *arguments])
    message = capsys.readouterr().err
    assert refusal.value.code == 2
    assert named in message and message.count("\n") == 1


def test_source_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_sentences.main(["--device", "cpu", "--source", str(tmp_path / "nowhere")]) == 2
    message = capsys.readouterr().err
    assert "nowhere does not exist" in message and message.count("\n") == 1
