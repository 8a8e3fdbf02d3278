"""The command line of `python -m orchestrator.submit`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from orchestrator.command_line import add_sweep_options, name, overrides_of, refuse_conflicts


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; a wrong one ends the process with a message and exit code 2."""
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.submit",
        description="Runs a sweep on a Ray cluster, as a job that goes on when this command has ended.",
    )
    add_sweep_options(parser, known_by="name", named="a digest of its settings")
    parser.add_argument(
        "--address",
        metavar="http://HEAD:8265",
        help="the cluster's dashboard; RAY_API_SERVER_ADDRESS or RAY_ADDRESS, else this machine's",
    )
    parser.add_argument(
        "--follow", action="store_true", help="print what the sweep prints, and end with its exit code"
    )
    parser.add_argument(
        "--dependencies",
        action="store_true",
        help="install the locked packages on the nodes first; without, they have them",
    )
    parser.add_argument("--status", type=name, metavar="NAME", help="how a submitted sweep is")
    parser.add_argument(
        "--stop", type=name, metavar="NAME", help="end a submitted sweep tidily, with its front so far"
    )
    options = parser.parse_args(arguments)
    refuse_conflicts(parser, options)
    _refuse_several(parser, options)
    if options.resume:
        try:
            name(options.resume)
        except argparse.ArgumentTypeError as error:
            parser.error(f"--resume: {error}")
    return options


def _refuse_several(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    looks = [f"--{word}" for word in ("status", "stop") if getattr(options, word)]
    runs = bool(options.file or options.resume)
    if len(looks) + runs > 1:
        parser.error(f"{looks[0]} takes no other sweep; give the rest in a command of its own")
    if not looks and not runs:
        parser.error(
            "name a search space, such as search_spaces/digits.yaml, or a sweep to --resume, --status "
            "or --stop"
        )
    if options.stop and options.follow:
        parser.error("--stop shows the sweep's end by itself; remove --follow")
    given = (options.name, options.imports, options.dependencies, *overrides_of(options))
    if looks and any(given):
        parser.error(f"{looks[0]} takes no settings of a sweep; remove them")
