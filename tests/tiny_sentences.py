"""Pairs of sentences and a transformer small enough for a test, as files that a user could have."""

from __future__ import annotations

import csv
import functools
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from trainables.config import TrialConfig

WIDTH = 24
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
WORDS = (
    *("a", "the", "dog", "cat", "bird", "man", "woman", "child", "park"),
    *("runs", "sleeps", "eats", "plays", "sees", "in", "on", "near"),
)


def write_transformer(folder: Path, width: int = WIDTH, dropout: float = 0.1) -> Path:
    """A random BERT of two layers over WORDS, as `save_pretrained` writes it."""
    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    ).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=2 * width,
        max_position_embeddings=128,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder)
    return folder


def sentences(number: int, seed: int, longest: int = 12) -> list[str]:
    """Different sentences of 1 to `longest` words."""
    draw = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < number:
        found[" ".join(draw.choices(WORDS, k=draw.randint(1, longest)))] = None
    return list(found)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def write_pairs(path: Path, number: int = 20) -> Path:
    first, second = sentences(number, 1), sentences(number, 2)
    return write_csv(path, ("sentence1", "sentence2"), zip(first, second, strict=True))


def write_scored_pairs(path: Path, number: int = 30) -> Path:
    """As many for validation as for test, with scores that follow how many words are the same."""
    rows = []
    for place, (one, other) in enumerate(zip(sentences(number, 3), sentences(number, 4), strict=True)):
        a, b = set(one.split()), set(other.split())
        score = len(a & b) / len(a | b)
        rows.append((one, other, score, ("validation", "test")[place % 2]))
    return write_csv(path, ("sentence1", "sentence2", "score", "split"), rows)


@functools.cache
def _files(folder: Path) -> dict[str, Path]:
    return {
        "weights": write_transformer(folder / "weights"),
        "pairs": write_pairs(folder / "pairs.csv"),
        "scored": write_scored_pairs(folder / "scored.csv"),
    }


def sentence_trial(folder: Path, **changes: Any) -> TrialConfig:
    """A training of seconds on pairs of one's own, whose files are in `folder`."""
    files = _files(folder)
    settings: dict[str, Any] = {
        "preset": "paper_snli",
        "dataset": "sentence_pairs",
        "data": {"source": str(files["pairs"]), "scored_pairs": str(files["scored"])},
        "encoder_weights": str(files["weights"]),
        "encoder_dim": WIDTH,
        "batch_size": 8,
        "epochs": 2,
        "optimizer": {"head_lr": 1e-2, "encoder_lr_ratio": 0.1},
        "device": "cpu",
    }
    data = settings["data"] | changes.pop("data", {})
    return TrialConfig.model_validate(settings | changes | {"data": data})
