"""`python -m trainables.bench_sharing`: is one GPU better used by several trainings at once?

So many processes as are asked for train the same model on one device at the same time, each on its own
random images and with its share of the memory, as trials with `resources.gpus: 1/N` do. What they do
together is held against one alone, in turns within one run. No Ray.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from trainables.bench_command import (
    Parser,
    add_machine_options,
    check_machine_options,
    circumstances,
    whole_number,
)
from trainables.bench_rows import Spread
from trainables.bench_together import Measured, Trainings
from trainables.config import TrialConfig


@dataclass(frozen=True)
class SharingRow:
    """What so many trainings at once did.

    Attributes:
        num: how many.
        images_per_s: of all together; None where they did not fit.
        ratio: times as many as one alone in the same turn.
        peak_mib: memory of each, the largest; None where the system does not say.
        fault: why they did not fit.
    """

    num: int
    images_per_s: Spread | None
    ratio: Spread | None
    peak_mib: float | None
    fault: str = ""

    def cells(self) -> tuple[str, ...]:
        if self.images_per_s is None:
            return str(self.num), "-", "-", "-", "-"
        each = self.images_per_s.median / self.num
        peak = "-" if self.peak_mib is None else f"{self.peak_mib:,.0f}"
        return str(self.num), str(self.images_per_s), f"{each:,.0f}", str(self.ratio or "-"), peak


def run(arguments: Sequence[str] | None = None) -> tuple[dict[str, Any], list[SharingRow]]:
    """Measures as the command line says: the circumstances, and a row for each number at once."""
    options = _parse(arguments)
    facts = circumstances(options, ("torch",))
    facts["threads"] = options.threads
    config = TrialConfig(
        dataset=options.dataset,
        encoder=options.encoder,
        encoder_weights="none",
        batch_size=options.batch_size,
        precision=options.precision,
        seed=options.seed,
        device=options.device,
    )
    with Trainings(config, max(options.at_once), options.threads) as trainings:
        turns = [
            {num: trainings.measure(num, options.seconds) for num in options.at_once}
            for _ in range(options.repeats)
        ]
    rows = [summarise(num, turns) for num in options.at_once]
    if options.json:
        found = {**facts, "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return facts, rows


def summarise(num: int, turns: Sequence[dict[int, Measured]]) -> SharingRow:
    """All turns of so many at once, each against one alone in the same turn."""
    fault = next((turn[num].fault for turn in turns if turn[num].fault), "")
    if fault:
        return SharingRow(num, None, None, None, fault)
    alone = [turn[1].images_per_s if 1 in turn and not turn[1].fault else None for turn in turns]
    together = [turn[num].images_per_s for turn in turns]
    ratios = [rate / one for rate, one in zip(together, alone, strict=True) if one]
    peaks = [peak for turn in turns if (peak := turn[num].peak_mib) is not None]
    ratio = Spread.of(ratios) if ratios else None
    return SharingRow(num, Spread.of(together), ratio, max(peaks, default=None))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m trainables.bench_sharing",
        description="Times several trainings at once on one device against one alone.",
    )
    add = parser.add_argument
    add(
        "--at-once",
        nargs="+",
        type=whole_number(1, 64),
        default=[1, 2, 4],
        metavar="N",
        help="so many trainings; several; 1 is always among them",
    )
    add("--encoder", choices=("resnet34", "resnet8"), help="by default resnet34 on a GPU, else resnet8")
    add("--dataset", choices=("cifar100", "cifar10"), default="cifar100")
    add("--batch-size", type=whole_number(2), default=256, metavar="N")
    add("--precision", choices=("fp32", "bf16"), default="fp32")
    add("--seconds", type=whole_number(1, 3600), default=20, metavar="N", help="of each measurement")
    add_machine_options(parser)
    options = parser.parse_args(arguments)
    check_machine_options(parser, options)
    options.at_once = sorted({1, *options.at_once})
    options.encoder = options.encoder or ("resnet34" if options.device == "cuda" else "resnet8")
    options.threads = options.threads or 1
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    facts, rows = run(arguments)
    console = Console(soft_wrap=True)
    settings = facts["settings"]
    console.print(
        f"{facts['machine']}, {facts['threads']} thread(s) a training, load {facts['load_before']:.1f} "
        f"before; torch {torch.__version__}; commit {facts['commit'] or 'unknown'}\n"
        f"{settings['encoder']}, {settings['dataset']} (random images), batch {settings['batch_size']}, "
        f"{settings['precision']}, {settings['seconds']} s a measurement",
        highlight=False,
    )
    table = Table(box=None, pad_edge=False)
    for column in ("at once", "images/s together", "each", "times one alone", "peak MiB of each"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*row.cells())
    console.print(table)
    for row in rows:
        if row.fault:
            console.print(f"{row.num} at once: {row.fault}", highlight=False, markup=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
