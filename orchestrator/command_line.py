"""The command line of `python -m orchestrator.sweep`, and what others share with it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from orchestrator.errors import UserError
from orchestrator.settings import SweepSettings, locate, parse_duration, parse_name

EXIT_USER_ERROR = 2


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; a wrong one ends the process with a message and exit code 2."""
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.sweep",
        description="Trains the trials of a search space and finds the front of quality against d_eff.",
    )
    add_sweep_options(parser)
    parser.add_argument(
        "--or-resume",
        action="store_true",
        help="go on with the sweep that --name names where it was begun, instead of refusing the name",
    )
    # Of orchestrator.submit alone: FILE has settings that nobody wrote there.
    parser.add_argument("--resolved", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--address", help="join a Ray cluster (auto: the one on this machine)")
    parser.add_argument(
        "--dry-run", action="store_true", help="validate, show what would run, and start nothing"
    )
    options = parser.parse_args(arguments)
    refuse_conflicts(parser, options)
    if options.or_resume and not (options.name and options.file):
        parser.error("--or-resume needs a search space and a --name, by which a second start finds it")
    if not options.resume and not options.file:
        parser.error("name a search space, such as search_spaces/digits.yaml, or a sweep to --resume")
    return options


def add_sweep_options(
    parser: argparse.ArgumentParser, known_by: str = "name, folder or URL", named: str = "the time"
) -> None:
    """What says which sweep is meant, wherever it is run.

    Args:
        parser: takes the options.
        known_by: what of a sweep --resume takes.
        named: what tells a sweep without --name from another one of the same file.
    """
    parser.add_argument(
        "file",
        type=Path,
        nargs="?",
        help="the search space, such as search_spaces/digits.yaml; --resume does without",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="put a value over the file's, such as trial.epochs=5; may be repeated",
    )
    parser.add_argument("--trials", type=_positive, metavar="N", help="same as --set search.trials=N")
    parser.add_argument("--time-budget", type=_duration, metavar="10m", help="stop after so long")
    parser.add_argument(
        "--resume",
        metavar="NAME",
        help=f"go on with a sweep that ended or was killed, by its {known_by}; budgets may grow",
    )
    parser.add_argument(
        "--import",
        action="append",
        default=[],
        metavar="SWEEP",
        dest="imports",
        help="give sampler and front the trials of an earlier sweep that fit: its name, its folder, or "
        "mlflow:NAME; may be repeated",
    )
    parser.add_argument("--name", type=name, help=f"the sweep's name; FILE's with {named} by default")
    parser.set_defaults(resolved=False)


def refuse_conflicts(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Ends the process where the options of `add_sweep_options` do not go together."""
    if options.resume and options.name:
        parser.error("--resume names the sweep already; remove --name")
    if options.resume and options.imports:
        parser.error("--resume keeps what the sweep imported when it started; remove --import")


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"a whole number above 0, got {text!r}")
    return int(text)


def _duration(text: str) -> str:
    try:
        parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def name(text: str) -> str:
    """An option's value that is a sweep's name."""
    try:
        return parse_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def overrides_of(options: argparse.Namespace) -> list[str]:
    """Every KEY=VALUE that goes over the file's values, those of the short forms included."""
    overrides = list(options.overrides)
    if options.trials:
        overrides.append(f"search.trials={options.trials}")
    if options.time_budget:
        overrides.append(f"search.time_budget={options.time_budget}")
    return overrides


def tell(error: UserError, options: argparse.Namespace) -> int:
    """Says what the user has to mend, with its place in a file that the user has; the exit code."""
    place = ""
    if error.location and options.file and not options.resolved:
        place = locate(options.file, overrides_of(options), error.location)
    print(f"{place}{error}", file=sys.stderr)
    return EXIT_USER_ERROR


def storage_of(options: argparse.Namespace) -> str:
    """The storage where no file names it: that of `--set`, or the usual one."""
    given = [
        value for key, _, value in (o.partition("=") for o in options.overrides) if key == "storage"
    ]
    return given[-1] if given else str(SweepSettings.model_fields["storage"].default)
