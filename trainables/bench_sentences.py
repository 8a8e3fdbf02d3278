"""`python -m trainables.bench_sentences`: our training on pairs of sentences against a plain loop.

Each figure is the median of repetitions, ours, the plain loop's and the floor's in turn, so that noise
of the machine hits all; ratios are within one run. The floor is the transformer alone on rows of one
length, with as many tokens as the sentences have: no padding, no loss, no optimizer, no tokeniser.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import ValidationError
from threadpoolctl import threadpool_limits

from trainables.bench_command import (
    Parser,
    add_machine_options,
    check_machine_options,
    circumstances,
    show,
    whole_number,
    write_json,
)
from trainables.bench_rows import Row
from trainables.bench_sentence_figures import SentenceBench
from trainables.config import DataConfig, TrialConfig
from trainables.errors import DataError, WeightsError
from trainables.facts import MINILM
from trainables.sentence_sources import SNLI, STSB

_PACKAGES = ("torch", "transformers", "tokenizers", "numpy")


def run(arguments: Sequence[str] | None = None) -> tuple[dict[str, Any], list[Row]]:
    """Measures as the command line says: the circumstances, and the figures.

    Raises:
        DataError: the pairs cannot be read.
        WeightsError: the encoder's weights cannot.
    """
    options, config = _parse(arguments)
    num_threads = torch.get_num_threads()
    torch.set_num_threads(options.threads or num_threads)
    try:
        with threadpool_limits(options.threads):
            torch.manual_seed(options.seed)
            facts = circumstances(options, _PACKAGES)
            bench = SentenceBench(options, config)
            bench.measure()
    finally:
        torch.set_num_threads(num_threads)
    write_json(options.json, facts, bench.rows)
    return facts, bench.rows


def _parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, TrialConfig]:
    """The options, and the training that they describe."""
    parser = Parser(
        prog="python -m trainables.bench_sentences",
        description="Times our training on sentences against a plain loop, and the floor.",
    )
    add = parser.add_argument
    add("--dataset", choices=("snli", "sentence_pairs"), default="snli")
    add("--source", metavar="PATH", help=f"pairs to train on: a directory, a file, or a hub id ({SNLI})")
    add("--scored-pairs", metavar="PATH", help=f"pairs with scores, the same ({STSB})")
    add("--encoder-weights", default=MINILM, metavar="PATH", help="a package, a directory, or a hub id")
    add("--encoder-dim", type=whole_number(1), metavar="N", help="its width: 384")
    add("--items", type=whole_number(2), metavar="N", help="pairs: 20000 on a GPU, else 512")
    add("--batch-size", type=whole_number(2), default=128, metavar="N", help="pairs of a batch")
    add("--clock", choices=("wall", "cpu"), default="wall", help="cpu: where other work runs beside")
    add_machine_options(parser)
    options = parser.parse_args(arguments)
    check_machine_options(parser, options)
    is_gpu = options.device == "cuda"
    options.items = options.items or (20_000 if is_gpu else 512)
    if options.clock == "cpu":
        if is_gpu:
            parser.error("--clock cpu sees nothing of what a GPU does; take wall")
        if options.threads not in (None, 1):
            parser.error("--clock cpu is of one thread; leave --threads out")
        options.threads = 1
    if options.batch_size > options.items:
        parser.error(f"--batch-size {options.batch_size} is more than --items {options.items}")
    try:
        return options, _config(options)
    except ValidationError as error:
        parser.error(error.errors()[0]["msg"].removeprefix("Value error, "))


def _config(options: argparse.Namespace) -> TrialConfig:
    """The paper's training on SNLI, but for the options, and free to be as quick as it can."""
    return TrialConfig(
        preset="paper_snli",
        deterministic=False,
        dataset=options.dataset,
        data=DataConfig(
            source=options.source,
            scored_pairs=options.scored_pairs,
            num_training_items=options.items,
        ),
        encoder_weights=options.encoder_weights,
        encoder_dim=options.encoder_dim,
        batch_size=options.batch_size,
        seed=options.seed,
        device=options.device,
    )


def _lines(facts: Mapping[str, Any]) -> list[str]:
    """What was measured, for people."""
    settings = facts["settings"]
    source, scored = settings["source"] or SNLI, settings["scored_pairs"] or STSB
    clock = "times are CPU times of one thread" if settings["clock"] == "cpu" else "times are wall times"
    weights, size, seed = (settings[name] for name in ("encoder_weights", "batch_size", "seed"))
    return [
        f"{settings['dataset']}: {source}, {settings['items']:,} pairs; scored pairs: {scored}",
        f"{weights}, batch {size}, seed {seed}; {clock}",
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    try:
        facts, rows = run(arguments)
    except (DataError, WeightsError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    show(facts, _lines(facts), rows, "plain")
    return 0


if __name__ == "__main__":
    sys.exit(main())
