"""python -m dashboards.tables SWEEP: the paper's tables with a sweep's numbers beside them.

Printed, and logged to the sweep's run in MLflow as Markdown, a page and CSV files.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from dashboards.head_results import read_results
from dashboards.paper_tables import info, read_paper
from dashboards.sweep_store import SweepStore
from dashboards.table_formats import render, show
from orchestrator.errors import UserError

EXIT_USER_ERROR = 2
PLACE = "tables"
"""The artifact folder of the sweep's parent run that the tables are logged to."""
_TERMINAL_WIDTH = 100


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = _parse(arguments)
    try:
        _print_tables(options.sweep, options.uri, options.out)
    except UserError as error:
        Console(stderr=True).print(Text(str(error)), soft_wrap=True)
        return EXIT_USER_ERROR
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m dashboards.tables",
        description="Prints the paper's Tables 1a, 2 and 3, or of pairs of sentences Tables 1b and 3, "
        "with a sweep's numbers beside the paper's, and logs them to the sweep's run in MLflow, in its "
        f"artifact folder {PLACE}.",
    )
    parser.add_argument("sweep", metavar="SWEEP", help="the sweep's name")
    parser.add_argument(
        "--uri",
        default=os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db",
        help="where MLflow is; $MLFLOW_TRACKING_URI, else sqlite:///mlflow.db",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="a folder for the same files")
    return parser.parse_args(arguments)


def _print_tables(name: str, uri: str, out: Path | None) -> None:
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    store = SweepStore(uri)
    sweep = store.sweep(name)
    drawn = info(sweep, read_results(store, sweep), read_paper())
    console = Console()
    if not console.is_terminal:
        console.width = _TERMINAL_WIDTH
    show(drawn, console)
    files = render(drawn)
    if out is not None:
        _write(out, files)
    store.log(sweep, PLACE, files)


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise UserError(f"--out: cannot write to {folder} ({error.strerror})") from None


if __name__ == "__main__":
    sys.exit(main())
