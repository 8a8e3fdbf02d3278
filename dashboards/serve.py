"""python -m dashboards.serve: all sweeps of a tracking server in the browser, live, on loopback."""

from __future__ import annotations

import argparse
import contextlib
import socket
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rich.console import Console

from dashboards.command_line import add_uri_option, exit_code
from orchestrator.errors import UserError

if TYPE_CHECKING:
    from dashboards.sweep_store import SweepStore

DEFAULT_PORT = 8700
LOOPBACK = "127.0.0.1"
_LAST_PORT = 65535
_PATIENCE_S = 3
"""So long may answers take that are on their way at Ctrl-C."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code once the server is ended."""
    options = _parse(arguments)
    return exit_code(lambda: _serve(options))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m dashboards.serve",
        description="Shows all sweeps of a tracking server; an open page follows its sweep. Whoever "
        "reaches the port sees everything, so it is on loopback unless --host says otherwise.",
    )
    add_uri_option(parser)
    parser.add_argument("--host", default=LOOPBACK, help=f"the address to listen on; {LOOPBACK}")
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help=f"{DEFAULT_PORT}; 0 for a free one"
    )
    parser.add_argument(
        "--mlflow",
        metavar="URL",
        help="MLflow's own pages, which points link to; the tracking server itself, or where --uri "
        "is a database, a server that is started for it",
    )
    return parser.parse_args(arguments)


def _serve(options: argparse.Namespace) -> None:
    from dashboards.sweep_store import SweepStore

    _require_web_address(options.mlflow)
    with contextlib.ExitStack() as open_things:
        listening = open_things.enter_context(_listen(options.host, options.port))
        store = SweepStore(options.uri)
        address = options.mlflow or (options.uri if store.is_server else None)
        if address is None:
            from dashboards.mlflow_ui import mlflow_ui

            address = open_things.enter_context(mlflow_ui(options.uri))
        _run(store, address, listening, options.host)


def _require_web_address(mlflow: str | None) -> None:
    """It becomes links, and a link may be a script."""
    if mlflow is not None and not _is_web_address(mlflow):
        raise UserError(f"--mlflow {mlflow}: not an address of the form http://HOST:PORT or https://...")
    if mlflow is not None and "@" in urlsplit(mlflow).netloc:
        raise UserError(
            "--mlflow names a user, whom every link would hand on; leave that out, MLflow asks by itself"
        )


def _is_web_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= _LAST_PORT:
        raise UserError(f"--port {port}: ports are from 0 to {_LAST_PORT}, and 0 is a free one")
    try:
        return socket.create_server((host, port))
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"--host {host} --port {port}: cannot listen there ({reason}); name another port, or 0"
        ) from None


def _run(store: SweepStore, mlflow: str, listening: socket.socket, host: str) -> None:
    import uvicorn

    from dashboards.served_sweeps import ServedSweeps
    from dashboards.web_app import make_app

    port = listening.getsockname()[1]
    names = {LOOPBACK, "localhost", host} if host != "0.0.0.0" else {"*"}  # noqa: S104
    sweeps = ServedSweeps(store, mlflow)
    console = Console()
    shown = "localhost" if "*" in names else host
    console.print(f"sweeps of {store.uri}: http://{shown}:{port}", highlight=False, soft_wrap=True)
    console.print(f"MLflow: {mlflow}. End with Ctrl-C.", highlight=False, soft_wrap=True)
    config = uvicorn.Config(
        make_app(sweeps, sorted(names)), log_level="warning", timeout_graceful_shutdown=_PATIENCE_S
    )
    server = uvicorn.Server(config)
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listening])


if __name__ == "__main__":
    sys.exit(main())
