"""An object in a process of its own: what it does keeps the driver's interpreter free."""

from __future__ import annotations

import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from orchestrator.child_process import ChildProcess, answer

_PATIENCE_S = 5.0


class RemoteObject:
    """Calls the methods of an object that lives in another process, one at a time.

    The process is started with the first call, or before, and again after it ended early; it ends with
    the one that started it.

    Args:
        name: what is told of it: "the process of NAME".
        make: makes the object, in that process at the first call.
        log: the file that its warnings go to.
    """

    def __init__(self, name: str, make: Callable[[], Any], log: Path) -> None:
        self._name = name
        self._make = make
        self._log = log
        self._lock = threading.Lock()
        self._process: ChildProcess | None = None
        self._is_called = False

    @property
    def pid(self) -> int | None:
        """Of the process; None while there is none."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Starts the process, which imports what it needs while the caller goes on."""
        with self._lock:
            self._started()

    def _started(self) -> ChildProcess:
        if self._process is None:
            self._process = ChildProcess(self._name, _serve, self._make, self._log)
        return self._process

    def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Calls a method; arguments, result and error are copies.

        Raises:
            ConnectionError: the process ended; the method may have been carried out, or not.
            Exception: whatever the method raises.
        """
        with self._lock:
            connection = self._started().connection
            self._is_called = True
            try:
                connection.send((name, args, kwargs))
                is_returned, value = connection.recv()
            except (EOFError, ConnectionError) as error:
                code = self._end()
                raise ConnectionError(f"the process of {self._name} ended ({code})") from error
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
            if self._process is not None and not self._is_called:
                self._process.kill()
            self._end()
            self._lock.release()
        elif self._process is not None:
            self._process.kill()


def _serve(connection: Connection, make: Callable[[], Any], log: Path) -> None:
    """The process."""
    made: list[Any] = []

    def call(message: tuple[str, tuple[Any, ...], dict[str, Any]]) -> Any:
        if not made:
            made.append(make())
        name, args, kwargs = message
        return getattr(made[0], name)(*args, **kwargs)

    answer(connection, log, call)
