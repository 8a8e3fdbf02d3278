"""python -m dashboards.tables SWEEP: the paper's tables with a sweep's numbers beside them.

Printed, and logged to the sweep's run in MLflow as Markdown, a page and CSV files.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from dashboards.command_line import add_sweep_options, exit_code, write_files
from dashboards.head_results import read_results
from dashboards.paper_tables import info, read_paper
from dashboards.sweep_store import SweepStore
from dashboards.table_formats import render, show
from dashboards.tracked_results import read_sweep

PLACE = "tables"
"""The artifact folder of the sweep's parent run that the tables are logged to."""
_TERMINAL_WIDTH = 100


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = _parse(arguments)
    return exit_code(lambda: _print_tables(options.sweep, options.uri, options.out))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m dashboards.tables",
        description="Prints the paper's Tables 1a, 2 and 3, or of pairs of sentences Tables 1b and 3, "
        "with a sweep's numbers beside the paper's, and logs them to the sweep's run in MLflow, in its "
        f"artifact folder {PLACE}.",
    )
    parser.add_argument("sweep", metavar="SWEEP", help="the sweep's name")
    add_sweep_options(parser)
    return parser.parse_args(arguments)


def _print_tables(name: str, uri: str, out: Path | None) -> None:
    store = SweepStore(uri)
    sweep = read_sweep(store, name)
    drawn = info(sweep, read_results(store, sweep), read_paper())
    console = Console()
    if not console.is_terminal:
        console.width = _TERMINAL_WIDTH
    show(drawn, console)
    files = render(drawn)
    if out is not None:
        write_files(out, files)
    store.log(sweep.run_id, PLACE, files)


if __name__ == "__main__":
    sys.exit(main())
