"""Takes the figures of `trainables.bench_sentences`: ours, the plain loop and the floor, in turns."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import get_args

import torch

from trainables.array_cache import CACHE_VARIABLE
from trainables.bench_machine import cpu_time, wall_time
from trainables.bench_rows import Row, Run, Spread, rotate
from trainables.bench_sentence_sides import (
    NUM_PEAK_STEPS,
    EqualRows,
    OurSentences,
    Side,
    padding_share,
    peak_of_steps,
    read_pairs,
    through_transformer,
)
from trainables.config import TrialConfig
from trainables.plain_sentences import PlainSentences
from trainables.sentence_cache import open_scored_pairs, open_training_pairs, tokenize_pairs
from trainables.sentence_sources import SNLI, STSB, RawPairs, find_source, read_scored_pairs
from trainables.sentences import SentencePairs, Sentences, load_sentences
from trainables.transformer import load_tokenizer
from trainables.validation import embed

PLAIN_BATCHES = {"cpu": (32, 64), "cuda": (64, 256)}
"""Sentences that a plain loop embeds at once; the better of them is what ours is held against."""
FLOOR_BATCHES = {"cpu": (32, 128), "cuda": (512, 4096)}
"""Rows of equal length at once; the best of them is the floor."""
GOAL = "goal: a ratio of 2"
_ORDERS = {
    "plain": "in the given order",
    "sorted plain": "sorted by characters, as sentence-transformers does",
}


class SentenceBench:
    """All figures of one run of the command.

    Attributes:
        rows: what `measure` found.

    Args:
        options: the command line's.
        config: the training, with as many pairs as are asked for.

    Raises:
        trainables.errors.DataError: the pairs cannot be read.
        trainables.errors.WeightsError: the encoder's weights cannot.
    """

    def __init__(self, options: argparse.Namespace, config: TrialConfig) -> None:
        self._options, self._config = options, config
        self._device = device = torch.device(options.device)
        self._clock = cpu_time if options.clock == "cpu" else partial(wall_time, device)
        self.rows: list[Row] = []
        self._source = find_source("--source", config.data.source or SNLI)
        self._scored = find_source("--scored-pairs", config.data.scored_pairs or STSB)
        self._measure_loading()
        data = load_sentences(config, device)
        self._pairs = read_pairs(config, self._source)
        self._bucketed = OurSentences(config, data.training, bucketing=True)
        self._unbucketed = OurSentences(config, data.training, bucketing=False)
        self._plain = PlainSentences(config, self._pairs, device)
        self._sets: dict[str, tuple[SentencePairs, list[str]]] = {
            "test": (data.test, _unique(read_scored_pairs(self._scored)["test"])),
            "training": (data.training, _unique(self._pairs)),
        }
        self._sentences = data.training

    def measure(self) -> None:
        """Takes all figures."""
        self._measure_tokenization()
        self._measure_padding()
        self._measure_training()
        for name in self._sets:
            self._measure_embedding(name)
        self._measure_memory()

    def _measure_loading(self) -> None:
        """How long it takes until the tokens are there, in a cache that is made and thrown away."""
        length, tokenizer = self._config.data.max_length, load_tokenizer(self._config.encoder_weights)
        assert self._config.dataset in ("snli", "sentence_pairs")
        dataset = self._config.dataset

        def load() -> None:
            open_training_pairs(dataset, self._source, tokenizer, length)
            open_scored_pairs(self._scored, tokenizer, length)

        with _empty_cache():
            once = rotate({"": self._clock(load)}, 1, warm_up=False)[""]
            again = rotate({"": self._clock(load)}, self._options.repeats, warm_up=False)[""]
        note = "all pairs of both sources: read, checked, tokenised, written"
        self.rows.append(Row("data once a node", "s", once, None, None, note))
        note = "the same from the cache, as every later process of the node does, checksums included"
        self.rows.append(Row("data from the cache", "s", again, None, None, note))

    def _measure_tokenization(self) -> None:
        plain, length = self._plain, self._config.data.max_length
        tokenizer = load_tokenizer(self._config.encoder_weights)
        batches = torch.arange(len(self._sentences)).split(self._config.batch_size)

        def tokenize_batches() -> None:
            for rows in batches:
                plain.tokenize(plain.texts(rows))

        runs: dict[str, Run] = {
            "ours": self._clock(lambda: tokenize_pairs(self._pairs, tokenizer, length)),
            "plain": self._clock(tokenize_batches),
        }
        spreads = rotate(runs, self._options.repeats)
        note = f"{len(self._sentences):,} pairs: ours once a node, the plain loop in each epoch"
        self.rows.append(Row("tokenisation", "s", spreads["ours"], spreads["plain"], None, note))

    def _measure_padding(self) -> None:
        """Counts the tokens of a whole epoch and of the embedded sets; measures no time."""
        plain, size = self._plain, min(PLAIN_BATCHES[self._device.type])

        def epoch(ours: OurSentences) -> Callable[[], None]:
            def run() -> None:
                for batch in ours.batches.epoch():
                    ours.placed.model(batch.items)

            return run

        baseline = padding_share(
            plain, lambda: [plain.forward(plain.texts(rows)) for rows in plain.batches()]
        )
        for label, ours in (("bucketing", self._bucketed), ("bucketing off", self._unbucketed)):
            share = padding_share(ours.encoder, epoch(ours))
            self._add_share(f"padding, training, {label}", share, baseline)
        encoder, model = self._bucketed.encoder, self._bucketed.placed.model
        for name, (pairs, texts) in self._sets.items():
            share = padding_share(encoder, lambda pairs=pairs: embed(model, pairs))
            for label, run in self._plain_ways(texts, size).items():
                baseline = padding_share(plain, run)
                self._add_share(f"padding, embedding {name}, {label}", share, baseline)

    def _add_share(self, figure: str, ours: float, plain: float) -> None:
        note = (
            "padding over all tokens that pass through the transformer, in an epoch and in embedding a "
            f"set; the plain loops embed {min(PLAIN_BATCHES[self._device.type])} sentences at once"
        )
        self.rows.append(Row(figure, "share", Spread.of([ours]), Spread.of([plain]), None, note))

    def _plain_ways(self, texts: list[str], size: int) -> dict[str, Callable[[], object]]:
        """How a plain loop may embed texts."""
        return {
            "plain": lambda: self._plain.embed(texts, size),
            "sorted plain": lambda: self._plain.embed_sorted(texts, size),
        }

    def _floor_runs(self, rows: EqualRows, training: bool) -> dict[str, Run]:
        model = self._bucketed.encoder.model
        return {
            f"floor {size}": self._clock(
                lambda size=size: through_transformer(model, rows, size, training)
            )
            for size in FLOOR_BATCHES[self._device.type]
        }

    def _measure_training(self) -> None:
        rows = EqualRows.of(self._epoch_sentences(), 2 * self._config.batch_size)
        sides = {"bucketing": self._bucketed, "bucketing off": self._unbucketed, "plain": self._plain}
        for side in sides.values():
            side.train_steps(1)
        epochs = {label: self._clock(side.train_epoch) for label, side in sides.items()}
        runs = {**epochs, **self._floor_runs(rows, training=True)}
        spreads = rotate(runs, self._options.repeats, warm_up=False)
        num_sentences = 2 * len(self._sentences)
        floor = num_sentences / rows.extrapolated_s(_lowest(spreads, "floor"))
        rates = {label: spreads[label].as_rate(num_sentences) for label in epochs}
        num_steps = -(-len(self._sentences) // self._config.batch_size)
        note = (
            f"an epoch of {num_steps} step(s), {self._config.batch_size} pairs each: forward, loss, "
            "backward, clipping, AdamW; the plain loop tokenises, pads to a batch's longest, and takes "
            f"AdamW as torch has it by default; {GOAL}; floor: forward and backward of as many tokens, "
            "in rows of one length, nothing else"
        )
        for label in ("bucketing", "bucketing off"):
            row = Row(f"training, {label}", "sentences/s", rates[label], rates["plain"], floor, note)
            self.rows.append(row)

    def _epoch_sentences(self) -> Sentences:
        pairs = self._sentences
        return pairs.items[torch.cat([pairs.first, pairs.second])]

    def _measure_embedding(self, name: str) -> None:
        pairs, texts = self._sets[name]
        assert len(texts) == len(pairs.items)
        model, sizes = self._bucketed.placed.model, PLAIN_BATCHES[self._device.type]
        rows = EqualRows.of(pairs.items, 512)
        runs = {"ours": self._clock(lambda: embed(model, pairs))}
        for size in sizes:
            ways = self._plain_ways(texts, size)
            runs |= {f"{way} {size}": self._clock(run) for way, run in ways.items()}
        spreads = rotate(
            {**runs, **self._floor_runs(rows, training=False)}, self._options.repeats, warm_up=False
        )
        floor = len(texts) / rows.extrapolated_s(_lowest(spreads, "floor"))
        rates = {label: spread.as_rate(len(texts)) for label, spread in spreads.items()}
        for way, order in _ORDERS.items():
            best = max(sizes, key=lambda size: rates[f"{way} {size}"].median)
            others = ", ".join(f"{size}: {rates[f'{way} {size}']}" for size in sizes if size != best)
            note = (
                f"all {len(texts):,} sentences of the {name} pairs, each once; the loop tokenises and "
                f"embeds {best} at once, its best ({others}), {order}; {GOAL}; floor: forward of "
                "as many tokens, in rows of one length"
            )
            figure = f"embedding {name} against {way} {best}"
            row = Row(figure, "sentences/s", rates["ours"], rates[f"{way} {best}"], floor, note)
            self.rows.append(row)

    def _measure_memory(self) -> None:
        threads = torch.get_num_threads()
        peaks = {
            side: peak_of_steps(self._config, self._source, side, threads) for side in get_args(Side)
        }
        note = (
            f"of {NUM_PEAK_STEPS} training steps, each side in a process of its own, above what it has "
            "when its model is loaded; gradients and AdamW's state included"
        )
        for label in ("bucketing", "bucketing off"):
            if ours := peaks[label]:
                self.rows.append(Row(f"peak memory, {label}", "MiB", ours, peaks["plain"], None, note))


def _lowest(spreads: dict[str, Spread], prefix: str) -> float:
    return min(spread.low for name, spread in spreads.items() if name.startswith(prefix))


def _unique(pairs: RawPairs) -> list[str]:
    """The sentences of pairs, each once, in the order in which they are first met."""
    return list(dict.fromkeys([*pairs.first, *pairs.second]))


@contextmanager
def _empty_cache() -> Iterator[None]:
    """Has this process cache in a folder that is removed afterwards."""
    before = os.environ.get(CACHE_VARIABLE)
    with tempfile.TemporaryDirectory() as folder:
        os.environ[CACHE_VARIABLE] = folder
        try:
            yield
        finally:
            del os.environ[CACHE_VARIABLE]
            if before is not None:
                os.environ[CACHE_VARIABLE] = before
