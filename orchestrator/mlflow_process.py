"""An MLflow client in a process of its own.

What the client does for one report is tens of milliseconds of Python. On a thread of the driver it
took the interpreter from the driver itself, whose reports then took 2.5 times as long.
"""

from __future__ import annotations

import functools
import multiprocessing
import pickle
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, cast

from mlflow import MlflowClient

from orchestrator.sweep_log import log_to

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
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None

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
            connection = self._connection or self._start()
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

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_serve, args=(theirs, self._uri, self._log), name="mlflow", daemon=True
        )
        process.start()
        theirs.close()  # so that the end of the one process is seen by the other
        self._process, self._connection = process, ours
        return ours

    def _end(self) -> int | None:
        """Ends the process; its exit code."""
        process, connection = self._process, self._connection
        self._process = self._connection = None
        if process is None or connection is None:
            return None
        connection.close()
        process.join(_PATIENCE_S)
        if process.is_alive():
            process.kill()
            process.join()
        return process.exitcode

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
    """The process: answers calls until the other end is closed, which is also how a kill ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the driver handles it
    log_to(log)
    client: MlflowClient | None = None
    while True:
        try:
            name, args, kwargs = connection.recv()
        except EOFError:
            return
        try:
            client = client or MlflowClient(tracking_uri=uri)
            answer = True, getattr(client, name)(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - raised where the call was made
            answer = False, _portable(error)
        try:
            connection.send(answer)
        except ConnectionError:
            return


def _portable(error: Exception) -> Exception:
    """The error, or where it cannot be sent another one that says the same."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - what was dumped here
    except Exception:  # noqa: BLE001 - whatever its parts raise
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
