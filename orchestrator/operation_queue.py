"""Operations on a server, MLflow's or a store, in order on one thread: what fails for a passing reason
is repeated, what the server refuses for good is logged and left out. Credentials that it does not take
are a passing reason: MLflow reads them anew for each request, so once they are mended in
~/.mlflow/credentials all is written.
"""

from __future__ import annotations

import logging
import queue
import sys
import threading
import time
from collections.abc import Callable

import requests
from mlflow.exceptions import MlflowException

logger = logging.getLogger(__name__)

_REFUSED_FOR_GOOD = {
    "BAD_REQUEST",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "PERMISSION_DENIED",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
}
_ASKED_TO_WAIT = {401, 408, 429}
"""Answers of a server that takes the same request later; 401 once the credentials are mended."""
_MAX_RETRY_SECONDS = 30.0
_SWITCH_INTERVAL_S = 1e-4
"""So long may this thread, which draws the pages too, keep the interpreter from the driver's, which
gives it up at every system call. With CPython's 5 ms a report took 1.2 to 1.9 times as long."""


Operation = Callable[[], object]


class OperationQueue:
    """Runs operations in order on one thread; repeats one that fails for a passing reason.

    Shortens the interpreter's switch interval, for the whole process.

    Args:
        server: who does not take an operation, for the log.
        held_back: makes of each operation, when it is put, one that waits for what must come before it.

    Attributes:
        num_refused: operations that were refused for good; the log has each.
    """

    def __init__(
        self,
        server: str = "MLflow",
        held_back: Callable[[Operation], Operation] = lambda operation: operation,
    ) -> None:
        self.num_refused = 0
        self._server = server
        self._held_back = held_back
        self._queue: queue.Queue[Operation | None] = queue.Queue()
        self._closing = threading.Event()
        self._last_success = time.monotonic()
        sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_INTERVAL_S))
        self._thread = threading.Thread(target=self._run, name=server, daemon=True)
        self._thread.start()

    def put(self, operation: Operation) -> None:
        """Has an operation run once those before it are done."""
        self._queue.put(self._held_back(operation))

    @property
    def num_waiting(self) -> int:
        """Operations that have not begun."""
        return self._queue.qsize()

    def close(self, patience_s: float) -> int:
        """Waits for the rest, up to `patience_s` without progress; returns how many are left."""
        self._queue.put(None)
        self._last_success = time.monotonic()
        while self._thread.is_alive() and time.monotonic() - self._last_success < patience_s:
            self._thread.join(timeout=0.1)
        self._closing.set()
        # The one in hand is no longer in the queue, the end mark still is.
        return self._queue.qsize() if self._thread.is_alive() else 0

    def _run(self) -> None:
        while (operation := self._queue.get()) is not None:
            self._run_one(operation)
            if self._closing.is_set():
                return

    def _run_one(self, operation: Operation) -> None:
        delay_s = 0.5
        while not self._closing.is_set():
            try:
                operation()
            except Exception as error:  # any backend's error; sorted into passing and final here
                if is_refused_for_good(error):
                    self.num_refused += 1
                    logger.exception("%s refused an operation for good; it is left out", self._server)
                    break
                text = "%s does not take an operation, trying again in %.1f s: %s"
                logger.warning(text, self._server, delay_s, error)
                self._closing.wait(delay_s)
                delay_s = min(2 * delay_s, _MAX_RETRY_SECONDS)
            else:
                break
        self._last_success = time.monotonic()


def is_refused_for_good(error: Exception) -> bool:
    """Whether repeating the operation cannot help: the request is wrong, or we have a bug."""
    if isinstance(error, MlflowException):
        return error.error_code in _REFUSED_FOR_GOOD
    if isinstance(error, requests.HTTPError) and error.response is not None:  # of artifacts
        return (
            400 <= error.response.status_code < 500 and error.response.status_code not in _ASKED_TO_WAIT
        )
    if _is_of_s3(error):
        return _status_of(error) in range(400, 500) and _status_of(error) not in _ASKED_TO_WAIT
    return isinstance(error, PermissionError) or not isinstance(error, (OSError, TimeoutError))


def _is_of_s3(error: Exception) -> bool:
    """Whether S3's client raised it, with which MLflow may write artifacts; here it may be absent."""
    return any(
        kind.__module__.partition(".")[0] in ("boto3", "botocore") for kind in type(error).__mro__
    )


def _status_of(error: Exception) -> int | None:
    """The HTTP status that an error of S3's client tells, if any."""
    response = getattr(error, "response", None) or {}
    return response.get("ResponseMetadata", {}).get("HTTPStatusCode")
