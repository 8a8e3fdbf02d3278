"""`python -m trainables.bench`: our training against a plain port of the published loop, and the floor.

Every figure is the median of repetitions, ours and the port's in turn, so that noise of the machine
hits both; ratios are within one run. A floor is the time that the encoder's operations take at
the best rate that this machine reached on a large matrix product or convolution in the same run.
A whole trial is not run: its figure is the sum of its measured parts.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
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
from trainables.bench_figures import SYNTHETIC, Bench
from trainables.bench_rows import Row, count_flops
from trainables.errors import DataError
from trainables.facts import EncoderKind


def _facts(options: argparse.Namespace) -> dict[str, Any]:
    kinds: list[EncoderKind] = list(dict.fromkeys([options.encoder, "resnet34"]))
    packages = ("torch", "torchvision", "scikit-learn", "numpy", "pillow")
    flops = {kind: count_flops(kind)._asdict() for kind in kinds}
    return {**circumstances(options, packages), "flops_an_image": flops}


def _lines(facts: Mapping[str, Any]) -> list[str]:
    """What was measured, for people."""
    settings, source = facts["settings"], facts["settings"]["source"]
    if source == SYNTHETIC:
        source = "random images, since no --source is named"
    lines = [f"{settings['dataset']}: {source}; batch {settings['batch_size']}, seed {settings['seed']}"]
    for name, flops in facts["flops_an_image"].items():
        forward, both_ways = flops["forward"] / 1e9, flops["both_ways"] / 1e9
        lines.append(
            f"{name}: {forward:.3f} GFLOP an image forward, {both_ways:.3f} forward and backward"
        )
    for precision, rates in facts["best_flops_per_s"].items():
        of = ", ".join(f"{name} {rate / 1e9:,.0f} GFLOP/s" for name, rate in rates.items())
        lines.append(f"best in {precision}: {of}")
    return lines


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, with what depends on the device filled in."""
    parser = Parser(
        prog="python -m trainables.bench",
        description="Times our training against a plain port of the published loop, and the floor.",
    )
    add = parser.add_argument
    add("--encoder", choices=("resnet34", "resnet8"), help="by default resnet34 on a GPU, else resnet8")
    add("--dataset", choices=("cifar100", "cifar10"), default="cifar100")
    add("--source", default=SYNTHETIC, help="a directory, a hub id, torchvision, or synthetic (default)")
    add("--batch-size", type=whole_number(2), default=256, metavar="N")
    add("--precision", nargs="+", choices=("fp32", "bf16"), default=["fp32"], help="of ours; several")
    add("--compile", action="store_true", help="ours compiled as well")
    add(
        "--steps",
        type=whole_number(1),
        metavar="N",
        help="in a repetition; extrapolates epochs from them",
    )
    add(
        "--items",
        type=whole_number(20),
        metavar="N",
        help="of epoch and gallery: 45000 on a GPU, else 2048",
    )
    add(
        "--port-workers",
        type=whole_number(0),
        default=4,
        metavar="N",
        help="processes that load its images",
    )
    add("--skip-port", action="store_true", help="ours and the floor alone")
    add_machine_options(parser)
    options = parser.parse_args(arguments)
    check_machine_options(parser, options)
    is_gpu = options.device == "cuda"
    options.encoder = options.encoder or ("resnet34" if is_gpu else "resnet8")
    options.items = options.items or (45_000 if is_gpu else 2048)
    options.precision = list(dict.fromkeys(options.precision))
    if options.compile and len(options.precision) > 1:
        parser.error("--compile takes one --precision: a process keeps one compiled encoder")
    if not options.source:
        parser.error("--source is empty; leave it out for random images")
    if options.batch_size > options.items:
        parser.error(f"--batch-size {options.batch_size} is more than --items {options.items}")
    return options


def run(arguments: Sequence[str] | None = None) -> tuple[dict[str, Any], list[Row]]:
    """Measures as the command line says: the circumstances, and the figures.

    Raises:
        DataError: the source cannot be read.
    """
    options = _parse(arguments)
    num_threads = torch.get_num_threads()
    torch.set_num_threads(options.threads or num_threads)
    try:
        with threadpool_limits(options.threads), warnings.catch_warnings():
            # The number of the port's workers is the published one, whatever this machine has.
            warnings.filterwarnings("ignore", message="This DataLoader will create")
            # scikit-learn's, of galleries that are as small as tests have them.
            warnings.filterwarnings("ignore", message="The number of unique classes")
            torch.manual_seed(options.seed)
            facts = _facts(options)
            bench = Bench(options, torch.device(options.device))
            bench.measure()
    finally:
        torch.set_num_threads(num_threads)
    facts["best_flops_per_s"] = bench.rates
    write_json(options.json, facts, bench.rows)
    return facts, bench.rows


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    try:
        facts, rows = run(arguments)
    except DataError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    show(facts, _lines(facts), rows, "port")
    return 0


if __name__ == "__main__":
    sys.exit(main())
