"""What the commands that measure have in common: options, circumstances, the table of their figures.

Called by `trainables.bench` and `trainables.bench_sentences`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import torch
from rich.console import Console
from rich.table import Table

from trainables.bench_rows import Row


class Parser(argparse.ArgumentParser):
    """Refuses wrong options in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{message}\n")


def add_machine_options(parser: Parser) -> None:
    """The options that say where and how often something is measured, and where that is written."""
    add = parser.add_argument
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    add("--threads", type=whole_number(1), metavar="N", help="of this process")
    add("--repeats", type=whole_number(1), default=3, metavar="N")
    add("--seed", type=whole_number(0, 2**32 - 1), default=42, metavar="N")
    add("--json", type=Path, metavar="FILE", help="write all figures there")


def check_machine_options(parser: Parser, options: argparse.Namespace) -> None:
    """Refuses what cannot be done here, and makes `auto` a device."""
    has_gpu = torch.cuda.is_available()
    if options.device == "cuda" and not has_gpu:
        parser.error("--device cuda: torch finds no GPU here; leave it out, or name cpu")
    if options.device == "auto":
        options.device = "cuda" if has_gpu else "cpu"
    if options.json and (options.json.is_dir() or not options.json.absolute().parent.is_dir()):
        parser.error(f"--json: {options.json} is not a file that can be written")


def whole_number(lowest: int, highest: int = 10**9) -> Callable[[str], int]:
    """Reads an option that is a whole number."""

    def whole(text: str) -> int:
        if not (text.isascii() and text.isdigit() and lowest <= int(text) <= highest):
            raise argparse.ArgumentTypeError(f"a whole number from {lowest} to {highest}, got {text!r}")
        return int(text)

    return whole


def circumstances(options: argparse.Namespace, packages: Sequence[str]) -> dict[str, Any]:
    """When, where and with what something is measured."""
    machine = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} CPUs"
    if options.device == "cuda":
        machine = f"{torch.cuda.get_device_name()}, {machine}"
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine,
        "threads": torch.get_num_threads(),
        "load_before": os.getloadavg()[0],
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "commit": _commit(),
        "settings": {name: str(v) if isinstance(v, Path) else v for name, v in vars(options).items()},
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


def write_json(file: Path | None, facts: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """Writes all figures, where a file is named."""
    if file:
        found = {**facts, "rows": [row.to_dict() for row in rows]}
        file.write_text(json.dumps(found, indent=2) + "\n")


def show(facts: Mapping[str, Any], more: Sequence[str], rows: Sequence[Row], baseline: str) -> None:
    """Prints the circumstances, the table, and how each figure was measured.

    Args:
        facts: what `circumstances` says.
        more: further lines on what was measured.
        rows: the figures.
        baseline: in one word, what ours is held against.
    """
    console = Console()
    console.width = console.width if console.is_terminal else 140
    lines = [
        f"{facts['machine']}, {facts['threads']} threads, load {facts['load_before']:.1f} before",
        ", ".join(f"{name} {number}" for name, number in facts["versions"].items()),
        f"commit {facts['commit'] or 'unknown'}",
        *more,
    ]
    table = Table(box=None, pad_edge=False)
    for column in ("figure", "unit", "ours", baseline, "ratio", "floor", "gap"):
        table.add_column(column, justify="left" if column in ("figure", "unit") else "right")
    for row in rows:
        table.add_row(*row.cells())
    console.print("\n".join(lines), highlight=False)
    console.print(table)
    console.print(
        f"median (lowest-highest); ratio: times better than the {baseline}; gap: times the floor"
    )
    for name, note in {row.figure.split(",")[0]: row.note for row in rows}.items():
        console.print(f"{name}: {note}", highlight=False)
