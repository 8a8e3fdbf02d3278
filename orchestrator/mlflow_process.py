"""An MLflow client in a process of its own.

What the client does for one report is tens of milliseconds of Python. On a thread of the driver it
took the interpreter from the driver itself, whose reports then took 2.5 times as long.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

from mlflow import MlflowClient

from orchestrator.child_process import ChildProcess, answer

_PATIENCE_S = 5.0


class MlflowProcess:
    """Calls the methods of an `MlflowClient` that lives in another process, one at a time.

    The process is started with the first call, and again after it ended early; it ends with the one that
    started it.

    Args:
        uri: of the tracking store.
        log: the file that MLflow's warnings go to.
    """

    def __init__(self, uri: str, log: Path) -> None:
        self._uri = uri
        self._log = log
        self._lock = threading.Lock()
        self._process: ChildProcess | None = None

    @property
    def client(self) -> MlflowClient:
        """The client as its callers know it; arguments, results and errors are copies."""
        return cast(MlflowClient, _Client(self._call))

    @property
    def pid(self) -> int | None:
        """Of the process; None while there is none."""
        return None if self._process is None else self._process.pid

    def _call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Calls a method.

        Raises:
            ConnectionError: the process ended; the method may have been carried out, or not.
            Exception: whatever the method raises.
        """
        with self._lock:
            if self._process is None:
                self._process = ChildProcess("mlflow", _serve, self._uri, self._log)
            connection = self._process.connection
            try:
                connection.send((name, args, kwargs))
                is_returned, value = connection.recv()
            except (EOFError, ConnectionError) as error:
                code = self._end()
                raise ConnectionError(f"the process of the MLflow client ended ({code})") from error
            except BaseException:  # an interrupt: the answer would be taken for the next one's
                self._end()
                raise
        if is_returned:
            return value
        raise value

    def _end(self) -> int | None:
        process, self._process = self._process, None
        return None if process is None else process.end()

    def close(self) -> None:
        """Ends the process, once what it is doing is done or has taken too long."""
        if self._lock.acquire(timeout=_PATIENCE_S):
            self._end()
            self._lock.release()
        elif self._process is not None:
            self._process.kill()


class _Client:
    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        return functools.partial(self._call, name)


def _serve(connection: Connection, uri: str, log: Path) -> None:
    """The process."""

    @functools.cache
    def client() -> MlflowClient:
        return MlflowClient(tracking_uri=uri)

    def call(message: tuple[str, tuple[Any, ...], dict[str, Any]]) -> Any:
        name, args, kwargs = message
        return getattr(client(), name)(*args, **kwargs)

    answer(connection, log, call)
