"""Our training on sentences as `trainables.bench_sentences` runs it; what any side pads and needs.

The peak of a side's memory is taken in a process of its own, which starts from the loaded model.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple, Protocol

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from trainables.batches import Batches
from trainables.bench_machine import peak_mib
from trainables.bench_rows import Spread
from trainables.config import TrialConfig
from trainables.distributed import SINGLE
from trainables.execution import choose_device, place_model
from trainables.plain_sentences import PlainSentences
from trainables.sentence_sources import RawPairs, Source, read_training_pairs
from trainables.sentences import SentencePairs, Sentences, load_sentences
from trainables.training import main_optimizer, train_epoch, train_step
from trainables.transformer import TransformerEncoder

Side = Literal["bucketing", "bucketing off", "plain"]
NUM_PEAK_STEPS = 2
"""Of the second, AdamW's state is there from its beginning."""


class OurSentences:
    """Our training as it is, with bucketing or without.

    Attributes:
        config: its settings.
        placed: its model.
        encoder: that of the model.
    """

    def __init__(self, config: TrialConfig, pairs: SentencePairs, bucketing: bool) -> None:
        self.config = config.model_copy(update={"bucketing": bucketing})
        self.placed = place_model(self.config, pairs.items.device)
        assert isinstance(self.placed.model.encoder, TransformerEncoder)
        self.encoder = self.placed.model.encoder
        self._optimizer = main_optimizer(self.config, self.placed.model)
        self.batches = Batches(self.config, pairs, "main", SINGLE)

    def train_epoch(self) -> float:
        """One pass over the pairs; the mean loss."""
        return train_epoch(self.config, self.placed, self._optimizer, self.batches, SINGLE).loss

    def train_steps(self, number: int) -> None:
        """The first steps of an epoch."""
        self.placed.model.train()
        for batch in islice(self.batches.epoch(), number):
            train_step(self.config, self.placed, self._optimizer, batch, SINGLE)


class EqualRows(NamedTuple):
    """Sentences of one length, as many and on average as long as those that they stand for.

    Attributes:
        tokens: of all rows.
        num_tokens: of the sentences that they stand for.
    """

    tokens: Int64[Tensor, "row token"]
    num_tokens: int

    @classmethod
    def of(cls, sentences: Sentences, max_rows: int) -> EqualRows:
        """At most so many rows, cut from the sentences' own tokens."""
        num_tokens = int(sentences.lengths.sum())
        length = max(round(num_tokens / len(sentences)), 1)
        num_rows = max(min(max_rows, len(sentences.tokens) // length), 1)
        tokens = sentences.tokens[: num_rows * length].reshape(num_rows, length)
        return cls(tokens.long(), num_tokens)

    def extrapolated_s(self, seconds: float) -> float:
        """The time of all tokens that they stand for."""
        return seconds * self.num_tokens / self.tokens.numel()


def through_transformer(model: nn.Module, rows: EqualRows, num_rows: int, training: bool) -> None:
    """Forward, and in training backward, of rows without padding, so many at a time."""
    model.train(training)
    model.zero_grad(set_to_none=True)
    with torch.set_grad_enabled(training):
        for part in rows.tokens.split(num_rows):
            hidden = model(input_ids=part).last_hidden_state
            if training:
                hidden.sum().backward()
    model.zero_grad(set_to_none=True)


class TokenCounter(nn.Module):
    """Stands in for a transformer, and counts the tokens that it is given.

    Attributes:
        num_tokens: all of them.
        num_padding: those that only fill a row up.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.config = SimpleNamespace(hidden_size=width)
        self.num_tokens = self.num_padding = 0

    def get_input_embeddings(self) -> nn.Module:
        return nn.Identity()

    def forward(self, attention_mask: Tensor, **_: Tensor) -> SimpleNamespace:
        self.num_tokens += attention_mask.numel()
        self.num_padding += attention_mask.numel() - int(attention_mask.sum())
        hidden = torch.zeros(1, device=attention_mask.device).expand(
            *attention_mask.shape, self.config.hidden_size
        )
        return SimpleNamespace(last_hidden_state=hidden)


class _HasTransformer(Protocol):
    model: Any


def padding_share(side: _HasTransformer, work: Callable[[], object]) -> float:
    """Of the tokens that pass through a side's transformer while something runs."""
    model = side.model
    side.model = counter = TokenCounter(model.config.hidden_size)
    try:
        work()
    finally:
        side.model = model
    return counter.num_padding / counter.num_tokens


def peak_of_steps(config: TrialConfig, source: Source, side: Side, num_threads: int) -> Spread | None:
    """The peak of a side's training steps above its loaded model, in MiB; None where nothing says it.

    Args:
        config: the training; of its pairs as many as `data.num_training_items` says.
        source: where these are.
        side: whose steps.
        num_threads: of the other process.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_peak_of_steps, config, source, side, num_threads).result()


def _peak_of_steps(config: TrialConfig, source: Source, side: Side, num_threads: int) -> Spread | None:
    torch.set_num_threads(num_threads)
    torch.manual_seed(config.seed)
    device = choose_device(config)
    steps: OurSentences | PlainSentences
    if side == "plain":
        steps = PlainSentences(config, read_pairs(config, source), device)
    else:
        steps = OurSentences(config, load_sentences(config, device).training, side == "bucketing")
    is_gpu = device.type == "cuda"
    loaded_mib = torch.cuda.memory_allocated(device) / 2**20 if is_gpu else 0.0

    def run() -> float:
        steps.train_steps(NUM_PEAK_STEPS)
        return 0.0

    peak = peak_mib(device, run)
    return peak and Spread.of([peak.median - loaded_mib])


def read_pairs(config: TrialConfig, source: Source) -> RawPairs:
    """The texts of the pairs that `load_sentences` gives the tokens of.

    Raises:
        trainables.errors.DataError: they cannot be read.
    """
    assert config.dataset in ("snli", "sentence_pairs")
    pairs, number = read_training_pairs(config.dataset, source), config.data.num_training_items
    return RawPairs(pairs.first[:number], pairs.second[:number])
