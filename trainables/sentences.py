"""Pairs of sentences as token ids that live on the device for as long as a process trains on them."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int32, Int64
from torch import Tensor

from trainables.array_cache import CachedArrays, short_digest
from trainables.config import TrialConfig
from trainables.errors import DataError
from trainables.metrics import spearman
from trainables.reports import Task
from trainables.sentence_cache import open_scored_pairs, open_training_pairs, tokenize
from trainables.sentence_sources import SCORED_SPLITS, SNLI, STSB, PairDataset, Source, find_source
from trainables.transformer import load_tokenizer, pad_id_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_PADDING = 0.08
"""Of a bucket's tokens; that of a batch is no more."""
_BUCKET_ROWS = {"cpu": 32, "cuda": 1024}
"""Sentences embedded at once: on a CPU few enough for its caches."""


@dataclass(frozen=True)
class Sentences:
    """Token ids of sentences of different lengths, without padding.

    Where they begin and how long they are stays on the CPU: a step that asks the device waits for it.

    Attributes:
        tokens: of all sentences.
        starts: where in `tokens` each one begins; on the CPU.
        lengths: its number of tokens; on the CPU.
        pad_id: what fills the rest of a row.
    """

    tokens: Int32[Tensor, " token"]
    starts: Int64[Tensor, " item"]
    lengths: Int64[Tensor, " item"]
    pad_id: int

    @staticmethod
    def of_texts(texts: list[str], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Sentences:
        """Tokenises texts; what is longer than `max_length` tokens is cut."""
        found = tokenize(texts, tokenizer, max_length)
        return Sentences.of_arrays(found["tokens"], found["starts"], pad_id_of(tokenizer))

    @staticmethod
    def of_arrays(tokens: np.ndarray, starts: np.ndarray, pad_id: int) -> Sentences:
        """Takes what `trainables.sentence_cache` makes of texts."""
        begins = torch.from_numpy(starts)
        return Sentences(torch.from_numpy(tokens), begins[:-1], begins.diff(), pad_id)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, rows: Int64[Tensor, " row"]) -> Sentences:
        return Sentences(self.tokens, self.starts[rows], self.lengths[rows], self.pad_id)

    @property
    def device(self) -> torch.device:
        return self.tokens.device

    def to(self, device: torch.device) -> Sentences:
        return Sentences(self.tokens.to(device), self.starts, self.lengths, self.pad_id)

    def padded(self) -> tuple[Int64[Tensor, "item token"], Bool[Tensor, "item token"]]:
        """Token ids, every sentence as long as the longest, and which of them are real."""
        places = torch.arange(int(self.lengths.max()))
        is_real = places < self.lengths[:, None]
        index = torch.where(is_real, self.starts[:, None] + places, 0).to(self.device)
        is_real = is_real.to(self.device)
        return self.tokens[index].long().masked_fill(~is_real, self.pad_id), is_real

    def buckets(self) -> list[Int64[Tensor, " row"]]:
        """Rows of like length together, the longest first: padding is at most MAX_PADDING of each."""
        return bucket_rows(self.lengths, _BUCKET_ROWS[self.device.type])


def bucket_rows(lengths: Int64[Tensor, " item"], max_rows: int) -> list[Int64[Tensor, " row"]]:
    """Splits rows, sorted by falling length, as soon as one more would waste too much or is too many.

    Args:
        lengths: of each row, at least 1.
        max_rows: rows of a bucket.
    """
    order = lengths.argsort(descending=True, stable=True)
    starts, longest, num_tokens = [0], 0, 0
    for place, length in enumerate(lengths[order].tolist()):
        num_rows = place - starts[-1] + 1
        longest = longest or length
        num_tokens += length
        if num_rows > max_rows or num_tokens < (1 - MAX_PADDING) * longest * num_rows:
            starts.append(place)
            longest, num_tokens = length, length
    return [part for part in order.tensor_split(starts[1:]) if len(part)]


@dataclass(frozen=True)
class SentencePairs:
    """Pairs of sentences, each of which is there once.

    Attributes:
        items: the sentences, sorted by their text.
        first: the row of each pair's one sentence; on the CPU, as the next.
        second: that of the other one.
        scores: how alike they are, from 0 to 1; None of pairs that mean the same.
    """

    items: Sentences
    first: Int64[Tensor, " pair"]
    second: Int64[Tensor, " pair"]
    scores: Float64[Tensor, " pair"] | None = None

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.first)

    @property
    def annotations(self) -> dict[str, Tensor]:
        """What is known of the items, by name."""
        pairs = {"first": self.first, "second": self.second}
        return pairs if self.scores is None else {**pairs, "scores": self.scores}

    def num_views(self, num_views: int) -> int:
        """Views of a pair in a batch: its two sentences."""
        return 2

    def views(
        self, rows: Int64[Tensor, " pair"], num_views: int
    ) -> tuple[Int64[Tensor, " view"], Int64[Tensor, " view"]]:
        """Items and labels of a batch of pairs: each pair is a class of its own."""
        return torch.cat([self.first[rows], self.second[rows]]), rows.repeat(2)

    def first_pairs(self, number: int | None) -> SentencePairs:
        """The first pairs, and their sentences only."""
        if number is None or number == len(self):
            return self
        first, second = self.first[:number], self.second[:number]
        kept = torch.cat([first, second]).unique()
        scores = None if self.scores is None else self.scores[:number]
        return SentencePairs(
            self.items[kept], torch.searchsorted(kept, first), torch.searchsorted(kept, second), scores
        )

    def to(self, device: torch.device) -> SentencePairs:
        return SentencePairs(self.items.to(device), self.first, self.second, self.scores)


@dataclass(frozen=True)
class SentenceDataset:
    """Pairs that mean the same to train on, and pairs with scores to validate and test on.

    Attributes:
        digest: of the tokens, pairs and scores of all that was read, also of what is not used.
    """

    training: SentencePairs
    validation: SentencePairs
    test: SentencePairs
    digest: str = field(default="", kw_only=True)
    task: ClassVar[Task] = "similarity"

    def quality(
        self, gallery: Float[Tensor, "item dim"], queries: Float[Tensor, "query dim"]
    ) -> dict[str, float]:
        """How well embeddings of the validation sentences serve the task; `gallery` has no say in it."""
        return {"spearman": pairs_spearman(queries, self.validation)}


def pairs_spearman(vectors: Float[Tensor, "item dim"], pairs: SentencePairs) -> float:
    """Spearman correlation of the cosine similarities of a set's pairs with their scores."""
    assert pairs.scores is not None
    return spearman(vectors[pairs.first], vectors[pairs.second], pairs.scores)


def load_sentences(config: TrialConfig, device: torch.device) -> SentenceDataset:
    """Loads the pairs of a training once a process and keeps them on `device`.

    Raises:
        DataError: they cannot be had, or are fewer than asked for.
        trainables.errors.WeightsError: their tokeniser, which comes with the encoder's weights, cannot.
    """
    return _load(
        config.dataset,
        *_sources(config),
        config.encoder_weights,
        config.data.max_length,
        config.data.num_training_items,
        device,
    )


def describe_sources(config: TrialConfig) -> str:
    """Where the pairs of a training come from, for people."""
    pairs, scored = _sources(config)
    return f"{pairs.name}, scored pairs from {scored.name}"


def _sources(config: TrialConfig) -> tuple[Source, Source]:
    return (
        find_source("data.source", config.data.source or SNLI),
        find_source("data.scored_pairs", config.data.scored_pairs or STSB),
    )


@functools.lru_cache(maxsize=2)
def _load(
    dataset: PairDataset,
    source: Source,
    scored_source: Source,
    weights: str,
    max_length: int,
    num_training_items: int | None,
    device: torch.device,
) -> SentenceDataset:
    tokenizer = load_tokenizer(weights)
    pad_id = pad_id_of(tokenizer)
    paired = open_training_pairs(dataset, source, tokenizer, max_length)
    training = _pairs(paired, "train", pad_id)
    if num_training_items and num_training_items > len(training):
        raise DataError(
            f"data.num_training_items is {num_training_items}, and there are {len(training)} pairs to "
            "train on; name at most as many"
        )
    scored = open_scored_pairs(scored_source, tokenizer, max_length)
    validation, test = (_pairs(scored, split, pad_id) for split in SCORED_SPLITS)
    training = training.first_pairs(num_training_items)
    digest = short_digest([paired.digest, scored.digest])
    parts = (part.to(device) for part in (training, validation, test))
    return SentenceDataset(*parts, digest=digest)


def _pairs(cached: CachedArrays, split: str, pad_id: int) -> SentencePairs:
    prefix = f"{split}_"
    arrays = {
        name.removeprefix(prefix): array
        for name, array in cached.arrays.items()
        if name.startswith(prefix)
    }
    scores = arrays.get("scores")
    return SentencePairs(
        Sentences.of_arrays(arrays["tokens"], arrays["starts"], pad_id),
        torch.from_numpy(arrays["first"]),
        torch.from_numpy(arrays["second"]),
        None if scores is None else torch.from_numpy(scores),
    )
