from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from gloo_group import run_in_group
from group_trial import fit_group_trial
from hypothesis import given
from hypothesis import strategies as st
from short_trials import assert_same, fit_reports, fit_with, relative_error
from tiny_sentences import (
    WIDTH,
    WORDS,
    sentence_trial,
    sentences,
    write_csv,
    write_pairs,
    write_scored_pairs,
    write_transformer,
)

from trainables.batches import Batch, Batches, distinct_batches
from trainables.checkpoint import CheckpointFile
from trainables.config import HeadConfig, TrialConfig
from trainables.data import load_dataset
from trainables.distributed import SINGLE, WorkerGroup
from trainables.errors import DataError
from trainables.models import build_model
from trainables.reports import metrics_of
from trainables.sentences import (
    MAX_PADDING,
    SentenceDataset,
    Sentences,
    _load,
    bucket_rows,
    load_sentences,
)
from trainables.transformer import load_tokenizer
from trainables.validation import embed, validate

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sentences")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MONOCON_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def config(folder: Path) -> TrialConfig:
    return sentence_trial(folder)


@pytest.fixture
def dataset(config: TrialConfig) -> SentenceDataset:
    return load_sentences(config, CPU)


def texts_of(sentences: Sentences) -> list[str]:
    """Back from token ids to words; special tokens are the first four."""
    tokens, is_real = sentences.padded()
    return [
        " ".join(WORDS[token - 4] for token in row[real].tolist() if token >= 4)
        for row, real in zip(tokens, is_real, strict=True)
    ]


def words(batch: Batch) -> list[str]:
    assert isinstance(batch.items, Sentences)
    return texts_of(batch.items)


def test_sentences_are_there_once_and_sorted(dataset: SentenceDataset) -> None:
    for part in (dataset.training, dataset.validation, dataset.test):
        texts = texts_of(part.items)
        assert texts == sorted(set(texts))


def test_pairs_are_those_of_the_file_in_its_order(dataset: SentenceDataset) -> None:
    texts, pairs = texts_of(dataset.training.items), dataset.training
    assert [texts[row] for row in pairs.first] == sentences(20, 1)
    assert [texts[row] for row in pairs.second] == sentences(20, 2)
    assert pairs.scores is None


def test_scored_pairs_are_those_of_their_split(dataset: SentenceDataset) -> None:
    for part, start in ((dataset.validation, 0), (dataset.test, 1)):
        texts = texts_of(part.items)
        assert [texts[row] for row in part.first] == sentences(30, 3)[start::2]
        assert part.scores is not None and part.scores.dtype == torch.float64
        assert all(0 <= score <= 1 for score in part.scores.tolist())


def test_fewer_pairs_are_the_first_with_their_sentences_only(folder: Path) -> None:
    few = load_sentences(sentence_trial(folder, data={"num_training_items": 5}), CPU).training
    texts = texts_of(few.items)
    assert [texts[row] for row in few.first] == sentences(20, 1)[:5]
    assert [texts[row] for row in few.second] == sentences(20, 2)[:5]
    assert texts == sorted({*sentences(20, 1)[:5], *sentences(20, 2)[:5]})


def test_more_pairs_than_there_are_is_an_error(folder: Path) -> None:
    config = sentence_trial(folder, data={"num_training_items": 21})
    with pytest.raises(DataError, match=r"^data\.num_training_items is 21, and there are 20 pairs"):
        load_sentences(config, CPU)


def test_long_sentences_are_cut(folder: Path) -> None:
    config = sentence_trial(folder, data={"max_length": 6})
    lengths = load_sentences(config, CPU).training.items.lengths
    assert lengths.max() == 6 and lengths.min() >= 3


def test_digest_tells_other_data_from_the_same_written_again(
    folder: Path, tmp_path: Path, dataset: SentenceDataset
) -> None:
    again = {"source": str(write_pairs(tmp_path / "a.csv"))}
    again["scored_pairs"] = str(write_scored_pairs(tmp_path / "b.csv"))
    fewer = {"source": str(write_pairs(tmp_path / "c.csv", 19))}
    rescored = {"scored_pairs": str(write_scored_pairs(tmp_path / "d.csv", 28))}
    part = {"num_training_items": 5}
    digests = [
        load_sentences(sentence_trial(folder, data=data), CPU).digest
        for data in (again, part, fewer, rescored)
    ]
    assert digests[:2] == [dataset.digest] * 2
    assert len({dataset.digest, *digests}) == 3


def test_data_is_loaded_once_a_process(config: TrialConfig) -> None:
    assert load_dataset(config, CPU) is load_dataset(config, CPU)


@given(lengths=st.lists(st.integers(1, 128), min_size=1, max_size=200), max_rows=st.integers(1, 40))
def test_buckets_hold_every_row_once_and_waste_little(lengths: list[int], max_rows: int) -> None:
    tensor = torch.tensor(lengths)
    buckets = bucket_rows(tensor, max_rows)
    assert sorted(torch.cat(buckets).tolist()) == list(range(len(lengths)))
    for rows in buckets:
        padded = len(rows) * int(tensor[rows].max())
        assert len(rows) <= max_rows
        assert 1 - int(tensor[rows].sum()) / padded <= MAX_PADDING + 1e-9


def test_rows_of_one_length_share_buckets_as_large_as_allowed() -> None:
    assert [len(rows) for rows in bucket_rows(torch.full((70,), 9), 32)] == [32, 32, 6]


@pytest.fixture
def model_inputs(folder: Path) -> Sentences:
    tokenizer = load_tokenizer(str(folder / "weights"))
    return Sentences.of_texts(sentences(50, 9), tokenizer, 128)


def test_output_depends_neither_on_bucketing_nor_on_the_batch(
    config: TrialConfig, folder: Path, model_inputs: Sentences
) -> None:
    config = config.model_copy(update={"head": HeadConfig(kind="none")})
    plain = build_model(config.model_copy(update={"bucketing": False})).eval()
    bucketed = build_model(config).eval()
    expected = plain.encode(model_inputs).detach()
    with torch.no_grad():
        alone = torch.cat([plain.encode(model_inputs[torch.tensor([row])]) for row in range(50)])
        assert torch.allclose(bucketed.encode(model_inputs), expected, atol=1e-6)
    assert torch.allclose(alone, expected, atol=1e-6)
    assert expected.shape == (50, WIDTH)


def test_output_is_the_mean_over_real_tokens(
    config: TrialConfig, folder: Path, model_inputs: Sentences
) -> None:
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(folder / "weights").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "weights")
    encoder = build_model(config).encoder.eval()
    with torch.no_grad():
        found = encoder(model_inputs)
        for row, text in enumerate(sentences(50, 9)[:10]):
            hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
            assert torch.allclose(found[row], hidden.mean(dim=0), atol=1e-6)


def test_gradient_does_not_depend_on_bucketing(folder: Path, tmp_path: Path) -> None:
    weights = write_transformer(tmp_path / "without_dropout", dropout=0.0)
    gradients = []
    for bucketing in (False, True):
        config = sentence_trial(folder, encoder_weights=str(weights), bucketing=bucketing)
        items = load_sentences(config, CPU).training.items
        model = build_model(config).train()
        model(items).square().mul(torch.arange(WIDTH)).sum().backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_empty_batch_has_the_encoders_width(config: TrialConfig, dataset: SentenceDataset) -> None:
    none = dataset.training.items[torch.tensor([], dtype=torch.long)]
    assert build_model(config).encode(none).shape == (0, WIDTH)


def test_batch_is_both_sentences_of_each_pair_in_one_class(
    config: TrialConfig, dataset: SentenceDataset
) -> None:
    pairs, seen = dataset.training, []
    texts = texts_of(pairs.items)
    for batch in Batches(config, pairs, "main", SINGLE).epoch():
        assert isinstance(batch.items, Sentences)
        found, number = texts_of(batch.items), batch.size // 2
        labels = batch.labels.tolist()
        assert labels[:number] == labels[number:] and len(set(labels)) == number
        for place, pair in enumerate(labels[:number]):
            assert found[place] == texts[pairs.first[pair]]
            assert found[number + place] == texts[pairs.second[pair]]
        seen += labels[:number]
    assert sorted(seen) == list(range(20))


def test_bucketing_does_not_change_which_pairs_share_a_batch(
    config: TrialConfig, dataset: SentenceDataset
) -> None:
    without = config.model_copy(update={"bucketing": False})
    labels = [
        [batch.labels.tolist() for batch in Batches(c, dataset.training, "main", SINGLE).epoch()]
        for c in (config, without)
    ]
    assert labels[0] == labels[1]


def test_shares_of_a_group_are_the_single_workers_batch(
    config: TrialConfig, dataset: SentenceDataset
) -> None:
    whole = [*Batches(config, dataset.training, "main", SINGLE).epoch()]
    shares = [[*Batches(config, dataset.training, "main", WorkerGroup(r, 3)).epoch()] for r in range(3)]
    for step, batch in enumerate(whole):
        parts = [share[step] for share in shares]
        assert [text for part in parts for text in words(part)] == words(batch)
        assert torch.equal(torch.cat([part.labels for part in parts]), batch.labels)


@given(
    pairs=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=60),
    batch_size=st.integers(1, 10),
)
def test_distinct_batches_repeat_no_sentence_and_lose_no_pair(
    pairs: list[tuple[int, int]], batch_size: int
) -> None:
    first, second = (torch.tensor(side) for side in zip(*pairs, strict=True))
    batches = distinct_batches(torch.arange(len(pairs)), first, second, batch_size)
    assert sorted(itertools.chain(*(b.tolist() for b in batches))) == list(range(len(pairs)))
    for batch in batches:
        assert 1 <= len(batch) <= batch_size
        members = [{*pairs[pair]} for pair in batch.tolist()]
        assert len(set().union(*members)) == sum(map(len, members))


def test_distinct_batches_of_distinct_pairs_are_the_usual_ones() -> None:
    order = torch.randperm(20)
    batches = distinct_batches(order, torch.arange(20), torch.arange(20, 40), 8)
    assert all(torch.equal(*both) for both in zip(batches, order.split(8), strict=True))


def test_waiting_pair_comes_before_later_ones() -> None:
    first, second = torch.tensor([0, 0, 2, 4, 6]), torch.tensor([1, 9, 3, 5, 7])
    batches = distinct_batches(torch.arange(5), first, second, 2)
    assert [batch.tolist() for batch in batches] == [[0, 2], [1, 3], [4]]


def test_epoch_of_distinct_sentences_has_every_pair(folder: Path, tmp_path: Path) -> None:
    rows = [("a dog", f"the {word}") for word in WORDS] + [("a cat", f"near {word}") for word in WORDS]
    pairs = write_csv(tmp_path / "pairs.csv", ("sentence1", "sentence2"), rows)
    config = sentence_trial(folder, data={"source": str(pairs), "distinct_sentences": True})
    training = load_sentences(config, CPU).training
    batches = [*Batches(config, training, "main", SINGLE).epoch()]
    assert sorted(p for b in batches for p in b.labels.tolist()[: b.size // 2]) == list(range(len(rows)))
    for batch in batches:
        assert isinstance(batch.items, Sentences)
        texts = texts_of(batch.items)
        assert len(texts) == len(set(texts))


def test_embedding_in_order_of_the_items(config: TrialConfig, dataset: SentenceDataset) -> None:
    model = build_model(config).eval()
    whole = embed(model, dataset.test)
    with torch.no_grad():
        for row in range(len(dataset.test.items)):
            one = model(dataset.test.items[torch.tensor([row])])[0]
            assert torch.allclose(whole.embedding[row], one, atol=1e-6)


def test_reports_have_the_metrics_of_the_task(config: TrialConfig) -> None:
    reports = fit_reports(config)
    assert [report.epoch for report in reports] == [1, 2]
    for report in reports:
        assert set(report.metrics) == set(metrics_of("similarity"))
        assert report.metrics["no_positive_share"] == 0


def test_spearman_is_that_of_scipy_on_plain_cosines(
    config: TrialConfig, dataset: SentenceDataset
) -> None:
    from scipy import stats

    model = build_model(config)
    metrics = validate(model, dataset).metrics
    pairs = dataset.validation
    vectors = embed(model, pairs).embedding.double().numpy()
    one, other = vectors[pairs.first.numpy()], vectors[pairs.second.numpy()]
    assert pairs.scores is not None
    expected = stats.spearmanr((one * other).sum(axis=1), pairs.scores.numpy())
    assert metrics["spearman"] == pytest.approx(float(np.asarray(expected)[0]), abs=1e-6)


def test_early_stopping_follows_spearman(config: TrialConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    falling = iter([0.5, 0.6, 0.4, 0.3, 0.2])
    monkeypatch.setattr(SentenceDataset, "quality", lambda *_: {"spearman": next(falling)})
    reports = fit_reports(config.model_copy(update={"epochs": 9, "patience_epochs": 2}))
    assert [report.metrics["spearman"] for report in reports] == [0.5, 0.6, 0.4, 0.3]


def test_training_with_dropout_goes_on_bit_for_bit(config: TrialConfig, tmp_path: Path) -> None:
    """From a checkpoint of each epoch, also of the warm-up's."""
    whole = CheckpointFile(tmp_path / "whole.pt", 0.0)
    expected = fit_with(whole, config)
    contents = []

    class Recorder(CheckpointFile):
        def write(self, content: dict[str, object]) -> None:
            super().write(content)
            contents.append(Path(self.path).read_bytes())

    fit_with(Recorder(tmp_path / "recorded.pt", 0.0), config)
    assert len(contents) == 3
    for number, content in enumerate(contents):
        path = tmp_path / f"resumed-{number}.pt"
        path.write_bytes(content)
        assert_same(fit_with(CheckpointFile(path, 0.0), config), expected)


def test_dropout_is_at_work_and_leaves_the_callers_generator_alone(config: TrialConfig) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    with_dropout = fit_reports(config)
    assert torch.equal(torch.get_rng_state(), before)
    other_seed = fit_reports(config.model_copy(update={"seed": 1}))
    assert with_dropout[0].metrics["train_loss"] != other_seed[0].metrics["train_loss"]
    assert_same(
        [report.metrics["train_loss"] for report in fit_reports(config)],
        [report.metrics["train_loss"] for report in with_dropout],
    )


def test_bf16_changes_little(config: TrialConfig, model_inputs: Sentences) -> None:
    exact = build_model(config).eval()
    rounded = build_model(config.model_copy(update={"precision": "bf16"})).eval()
    with torch.no_grad():
        one, other = exact.encode(model_inputs), rounded.encode(model_inputs)
    assert other.dtype == torch.float32
    assert 0 < relative_error(other, one) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3])
def test_training_in_a_group_is_that_of_one_worker(folder: Path, tmp_path: Path, size: int) -> None:
    """20 pairs in batches of 6: in the last one, of 2 pairs, each of 3 workers still has a sentence."""
    weights = write_transformer(tmp_path / "without_dropout", dropout=0.0)
    config = sentence_trial(folder, encoder_weights=str(weights), batch_size=6)
    results = run_in_group(partial(fit_group_trial, settings=config.model_dump_json()), size, tmp_path)
    alone = fit_reports(config)
    for reports in results:
        for got, expected in zip(reports, alone, strict=True):
            for name in ("train_loss", "spearman", "reconstruction_error", "d_eff"):
                assert got.metrics[name] == pytest.approx(expected.metrics[name], rel=1e-3, abs=1e-4)


@pytest.mark.slow
def test_worker_without_a_sentence_keeps_step(folder: Path, tmp_path: Path) -> None:
    weights = write_transformer(tmp_path / "without_dropout", dropout=0.0)
    # The last batch is one pair, two sentences.
    config = sentence_trial(folder, encoder_weights=str(weights), batch_size=19)
    results = run_in_group(partial(fit_group_trial, settings=config.model_dump_json()), 3, tmp_path)
    alone = fit_reports(config)
    assert all(
        got.metrics["train_loss"] == pytest.approx(expected.metrics["train_loss"], rel=1e-3)
        for reports in results
        for got, expected in zip(reports, alone, strict=True)
    )


def test_sentence_that_all_pairs_share_is_in_as_many_batches_in_linear_time() -> None:
    order = torch.arange(3000)
    batches = distinct_batches(order, torch.zeros(3000, dtype=torch.long), order + 1, 64)
    assert sorted(torch.cat(batches).tolist()) == order.tolist()
    assert {len(batch) for batch in batches} == {1}


def test_no_sentences_are_no_rows(folder: Path) -> None:
    none = Sentences.of_texts([], load_tokenizer(str(folder / "weights")), 128)
    assert len(none) == 0 and none.device == CPU


def test_scored_pairs_are_tokenised_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a tokeniser was used for before has no say in the cache's name."""
    monkeypatch.setenv("MONOCON_CACHE", str(tmp_path))
    for _ in range(2):
        _load.cache_clear()
        load_sentences(sentence_trial(folder), CPU)
    _load.cache_clear()
    kinds = sorted(path.name.split("-")[0] for path in tmp_path.iterdir() if path.is_dir())
    assert kinds == ["scored", "sentence_pairs"]
