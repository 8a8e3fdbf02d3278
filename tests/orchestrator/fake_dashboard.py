"""A dashboard that says what a test gives it, or nothing at all."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from typing import NamedTuple

VERSION = "/api/version"


class Said(NamedTuple):
    """An answer; `target` is where it leads."""

    code: int
    body: bytes = b""
    target: str = ""


OURS = Said(200, json.dumps({"ray_version": version("ray")}).encode())


class Dashboard(NamedTuple):
    """A server that runs.

    Attributes:
        url: its address.
        seen: path and token of each request.
    """

    url: str
    seen: list[tuple[str, str | None]]


@contextmanager
def serving(answers: Mapping[str, Said | None]) -> Iterator[Dashboard]:
    """Runs a server that answers 404 where it is told nothing of a path, and never where None."""
    is_over = threading.Event()
    seen: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.path, self.headers.get("Authorization")))
            said = answers.get(self.path, Said(404))
            if said is None:
                is_over.wait()
                return
            self.send_response(said.code)
            if said.target:
                self.send_header("Location", said.target)
            self.end_headers()
            self.wfile.write(said.body)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            """Keeps the tests quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Dashboard(f"http://127.0.0.1:{server.server_port}", seen)
    finally:
        is_over.set()
        server.shutdown()
        thread.join()
        server.server_close()
