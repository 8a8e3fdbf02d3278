"""Sentences tokenised once a node, those of a set without repetition and sorted by their text.

`trainables.sentences` opens it. What a tokeniser makes of a text depends on nothing but its own rules,
so a cache is named after these, the source, and the longest sentence that is kept whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from trainables.array_cache import CachedArrays, cache_folder, identity_of_files, open_arrays
from trainables.sentence_sources import (
    SCORED_SPLITS,
    PairDataset,
    RawPairs,
    Source,
    read_scored_pairs,
    read_training_pairs,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_READING = 2
"""Counts the ways in which files were read: what was cached of another one is read again."""
_OF_PAIRS = ("tokens", "starts", "first", "second")
"""Token ids of all sentences one after the other; where each begins, and the end; the rows of a pair."""


def open_training_pairs(
    dataset: PairDataset, source: Source, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> CachedArrays:
    """The pairs to train on: the arrays of `_OF_PAIRS` under `train_NAME`.

    Raises:
        trainables.errors.DataError: they cannot be read, or the cache cannot be written.
    """
    names = [f"train_{name}" for name in _OF_PAIRS]
    return _open(
        dataset,
        source,
        tokenizer,
        max_length,
        names,
        lambda: {"train": read_training_pairs(dataset, source)},
    )


def open_scored_pairs(
    source: Source, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> CachedArrays:
    """The pairs with scores: the arrays of `_OF_PAIRS` and `scores`, under `validation_` and `test_`.

    Raises:
        trainables.errors.DataError: as `open_training_pairs`.
    """
    names = [f"{split}_{name}" for split in SCORED_SPLITS for name in (*_OF_PAIRS, "scores")]
    return _open("scored", source, tokenizer, max_length, names, lambda: read_scored_pairs(source))


def _open(
    kind: str,
    source: Source,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    names: list[str],
    read: Callable[[], Mapping[str, RawPairs]],
) -> CachedArrays:
    files = identity_of_files([*source.files])
    identity = [_READING, source.name, files, _rules(tokenizer), max_length]

    def build() -> dict[str, np.ndarray]:
        arrays: dict[str, np.ndarray] = {}
        for split, pairs in read().items():
            found = tokenize_pairs(pairs, tokenizer, max_length)
            arrays |= {f"{split}_{name}": array for name, array in found.items()}
        return arrays

    return open_arrays(cache_folder(kind, identity), kind, source.name, names, build)


def tokenize_pairs(
    pairs: RawPairs, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> dict[str, np.ndarray]:
    """The arrays of a set of pairs: `_OF_PAIRS`, and `scores` where it has any."""
    texts = sorted({*pairs.first, *pairs.second})
    row_of = {text: row for row, text in enumerate(texts)}
    arrays = {
        **tokenize(texts, tokenizer, max_length),
        "first": np.array([row_of[text] for text in pairs.first], np.int64),
        "second": np.array([row_of[text] for text in pairs.second], np.int64),
    }
    return arrays if pairs.scores is None else {**arrays, "scores": pairs.scores}


def tokenize(
    texts: list[str], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> dict[str, np.ndarray]:
    """Token ids of all texts one after the other, int32, and where each begins, and the end, int64."""
    if not texts:
        return {"tokens": np.zeros(0, np.int32), "starts": np.zeros(1, np.int64)}
    found = tokenizer(texts, truncation=True, max_length=max_length, padding=False)["input_ids"]
    ids: Any = found
    starts = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(row) for row in ids], out=starts[1:])
    return {"tokens": np.concatenate([np.asarray(row, np.int32) for row in ids]), "starts": starts}


def _rules(tokenizer: PreTrainedTokenizerBase) -> str:
    """A digest of all that decides what a tokeniser makes of a text."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend:
        # Truncation and padding are what it was last asked for, not what it is.
        known = json.loads(backend.to_str())
        rules = {name: value for name, value in known.items() if name not in ("truncation", "padding")}
    else:
        rules = sorted(tokenizer.get_vocab().items())
    text = json.dumps([type(tokenizer).__name__, rules])
    return hashlib.sha256(text.encode()).hexdigest()
