"""`python -m trainables.bench`: our training against a plain port of the published loop, and the floor.

Every figure is the median of repetitions, ours and the port's in turn, so that noise of the machine
hits both; ratios are within one run. A floor is the time that the encoder's operations take at
the best rate that this machine reached on a large matrix product or convolution in the same run.
A whole trial is not run: its figure is the sum of its measured parts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import torch
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from trainables.bench_figures import SYNTHETIC, Bench
from trainables.bench_rows import Row, count_flops
from trainables.config import EncoderKind
from trainables.errors import DataError


def _facts(options: argparse.Namespace) -> dict[str, Any]:
    machine = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} CPUs"
    if options.device == "cuda":
        machine = f"{torch.cuda.get_device_name()}, {machine}"
    kinds: list[EncoderKind] = list(dict.fromkeys([options.encoder, "resnet34"]))
    packages = ("torch", "torchvision", "scikit-learn", "numpy", "pillow")
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine,
        "threads": torch.get_num_threads(),
        "load_before": os.getloadavg()[0],
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "commit": _commit(),
        "settings": {name: str(v) if isinstance(v, Path) else v for name, v in vars(options).items()},
        "flops_an_image": {kind: count_flops(kind)._asdict() for kind in kinds},
    }


def _commit() -> str | None:
    """The commit of this code, `-dirty` where it was changed; None where git does not say."""
    command = ("git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    try:
        result = subprocess.run(
            command, check=False, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None


def _show(console: Console, facts: Mapping[str, Any], rows: Sequence[Row]) -> None:
    settings, source = facts["settings"], facts["settings"]["source"]
    if source == SYNTHETIC:
        source = "random images, since no --source is named"
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    lines = [
        f"{facts['machine']}, {facts['threads']} threads, load {facts['load_before']:.1f} before",
        versions,
        f"commit {facts['commit'] or 'unknown'}",
        f"{settings['dataset']}: {source}; batch {settings['batch_size']}, seed {settings['seed']}",
    ]
    for name, flops in facts["flops_an_image"].items():
        forward, both_ways = flops["forward"] / 1e9, flops["both_ways"] / 1e9
        lines.append(
            f"{name}: {forward:.3f} GFLOP an image forward, {both_ways:.3f} forward and backward"
        )
    for precision, rates in facts["best_flops_per_s"].items():
        of = ", ".join(f"{name} {rate / 1e9:,.0f} GFLOP/s" for name, rate in rates.items())
        lines.append(f"best in {precision}: {of}")
    table = Table(box=None, pad_edge=False)
    for column in ("figure", "unit", "ours", "port", "ratio", "floor", "gap"):
        table.add_column(column, justify="left" if column in ("figure", "unit") else "right")
    for row in rows:
        table.add_row(*row.cells())
    console.print("\n".join(lines), highlight=False)
    console.print(table)
    console.print("median (lowest-highest); ratio: times better than the port; gap: times the floor")
    for name, note in {row.figure.split(",")[0]: row.note for row in rows}.items():
        console.print(f"{name}: {note}", highlight=False)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{message}\n")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, with what depends on the device filled in."""
    parser = _Parser(
        prog="python -m trainables.bench",
        description="Times our training against a plain port of the published loop, and the floor.",
    )
    add = parser.add_argument
    add("--encoder", choices=("resnet34", "resnet8"), help="by default resnet34 on a GPU, else resnet8")
    add("--dataset", choices=("cifar100", "cifar10"), default="cifar100")
    add("--source", default=SYNTHETIC, help="a directory, a hub id, torchvision, or synthetic (default)")
    add("--batch-size", type=_from(2), default=256, metavar="N")
    add("--precision", nargs="+", choices=("fp32", "bf16"), default=["fp32"], help="of ours; several")
    add("--compile", action="store_true", help="ours compiled as well")
    add("--steps", type=_from(1), metavar="N", help="in a repetition; extrapolates epochs from them")
    add("--items", type=_from(20), metavar="N", help="of epoch and gallery: 45000 on a GPU, else 2048")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    add("--threads", type=_from(1), metavar="N", help="of this process")
    add("--port-workers", type=_from(0), default=4, metavar="N", help="processes that load its images")
    add("--skip-port", action="store_true", help="ours and the floor alone")
    add("--repeats", type=_from(1), default=3, metavar="N")
    add("--seed", type=_from(0, 2**32 - 1), default=42, metavar="N")
    add("--json", type=Path, metavar="FILE", help="write all figures there")
    options = parser.parse_args(arguments)
    has_gpu = torch.cuda.is_available()
    if options.device == "cuda" and not has_gpu:
        parser.error("--device cuda: torch finds no GPU here; leave it out, or name cpu")
    if options.device == "auto":
        options.device = "cuda" if has_gpu else "cpu"
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
    if options.json and (options.json.is_dir() or not options.json.absolute().parent.is_dir()):
        parser.error(f"--json: {options.json} is not a file that can be written")
    return options


def _from(lowest: int, highest: int = 10**9) -> Callable[[str], int]:
    def whole(text: str) -> int:
        if not (text.isascii() and text.isdigit() and lowest <= int(text) <= highest):
            raise argparse.ArgumentTypeError(f"a whole number from {lowest} to {highest}, got {text!r}")
        return int(text)

    return whole


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
    if options.json:
        rows = [row.to_dict() for row in bench.rows]
        options.json.write_text(json.dumps({**facts, "rows": rows}, indent=2) + "\n")
    return facts, bench.rows


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    try:
        facts, rows = run(arguments)
    except DataError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    console = Console()
    console.width = console.width if console.is_terminal else 140
    _show(console, facts, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
