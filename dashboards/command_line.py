"""What the commands of the pages have in common: options, exit codes, files that they write."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console
from rich.text import Text

from orchestrator.errors import UserError

EXIT_USER_ERROR = 2


def exit_code(work: Callable[[], None]) -> int:
    """Does the work of a command; what is the user's to mend is one line on standard error."""
    try:
        work()
    except UserError as error:
        Console(stderr=True).print(Text(str(error)), soft_wrap=True)
        return EXIT_USER_ERROR
    return 0


def add_sweep_options(parser: argparse.ArgumentParser) -> None:
    """Where MLflow is, and a folder for what is made."""
    add_uri_option(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="a folder for the same files")


def add_uri_option(parser: argparse.ArgumentParser) -> None:
    """Where MLflow is."""
    parser.add_argument(
        "--uri",
        default=os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db",
        help="where MLflow is; $MLFLOW_TRACKING_URI, else sqlite:///mlflow.db",
    )


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes files into a folder, which is made where it is missing.

    Raises:
        UserError: it cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise UserError(f"--out: cannot write to {folder} ({error.strerror})") from None
