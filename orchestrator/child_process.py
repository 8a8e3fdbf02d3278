"""A process of the driver's own that answers messages one at a time: what MLflow's client and the study
have in common.
"""

from __future__ import annotations

import atexit
import multiprocessing
import pickle
import signal
from collections.abc import Callable
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import requests

from orchestrator.sweep_log import log_to

_PATIENCE_S = 5.0


class ChildProcess:
    """A new process, which ends with the one that started it and takes neither Ctrl-C nor SIGTERM.

    Args:
        name: of the process.
        serve: what it does: `answer` over the connection that is its first argument.
        args: the others.

    Attributes:
        connection: takes messages and gives for each `(True, answer)`, or `(False, error)`.
        pid: of the process.
    """

    def __init__(self, name: str, serve: Callable[..., None], *args: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, *args), name=name, daemon=True)
        # Ctrl-C reaches the whole group, and so does the SIGTERM by which Ray stops a job; the driver
        # handles both. The process inherits what is blocked, so not even its own start can be
        # interrupted; the tracker's start would lift that.
        resource_tracker.ensure_running()
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        theirs.close()  # so that the end of the one process is seen by the other
        self.pid = self._process.pid
        atexit.register(self.kill)  # before multiprocessing's own SIGTERM, which would wait for ever

    def end(self, patience_s: float = _PATIENCE_S) -> int | None:
        """Ends it, once what it is doing is done or has taken too long; its exit code."""
        self.connection.close()
        self._process.join(patience_s)
        self.kill()
        self._process.join()
        atexit.unregister(self.kill)
        return self._process.exitcode

    def kill(self) -> None:
        """Ends it at once."""
        if self._process.is_alive():
            self._process.kill()


def answer(connection: Connection, log: Path, handle: Callable[[Any], Any]) -> None:
    """In the process: answers until the other end is closed, which is also how a kill ends it."""
    log_to(log)
    while True:
        try:
            message = connection.recv()
        except (EOFError, ConnectionError):
            return
        try:
            result = True, handle(message)
        except Exception as error:  # noqa: BLE001 - raised where the message was sent
            result = False, _portable(error)
        try:
            connection.send(result)
        except ConnectionError:
            return


def _portable(error: Exception) -> Exception:
    """The error, or where it cannot be sent another one that says the same."""
    if isinstance(error, requests.RequestException):
        _leave_out_requests(error)
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - what was dumped here
    except Exception:  # noqa: BLE001 - whatever its parts raise
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _leave_out_requests(error: requests.RequestException) -> None:
    """An upload's request holds an open file; who sorts errors looks at the response."""
    error.request = None
    if error.response is not None:
        error.response.history = []
        error.response.request = None  # pyright: ignore[reportAttributeAccessIssue]
