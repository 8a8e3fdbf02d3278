"""The ledger's copy at the URL of a sweep's storage: `ledger.jsonl`, and while a driver works segments
named by the byte that they begin at, `ledger/000000012345.jsonl`.

Whatever is copied twice is the same, so a copy can be cut off anywhere and taken up again.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from orchestrator.errors import UserError
from orchestrator.paths import SweepPaths
from orchestrator.sweep_folder import write_whole
from trainables.places import StoreError, list_files, read_object, remove, write_object

logger = logging.getLogger(__name__)

_EVERY_S = 0.5
_LOG_EVERY_S = 60.0
_SEGMENT_BYTES = 2**18
"""A segment that is larger grows no more; until then it is put again with what is new."""
_WAIT_S = 5.0
_Result = TypeVar("_Result")


def is_copied(names: list[str]) -> bool:
    """Whether there is a ledger among the names of what is at a sweep's URL."""
    return any(name == "ledger.jsonl" or name.startswith("ledger/") for name in names)


def read_copy(paths: SweepPaths) -> bytes:
    """The ledger as it is at the URL, whole lines; empty where there is none.

    Raises:
        OSError: the store does not give it.
    """
    copied = b""
    names = list_files(_segments(paths))
    with contextlib.suppress(FileNotFoundError):
        copied = read_object(paths.at_url(paths.ledger))
    for name in names:
        begin = int(name.removesuffix(".jsonl"))
        if begin > len(copied):
            raise UserError(f"{_segments(paths)}: what comes before {name} is missing")
        try:
            copied += read_object(f"{_segments(paths)}/{name}")[len(copied) - begin :]
        except FileNotFoundError:  # a driver just made one object of all
            return read_copy(paths)
    return copied


def fetch(paths: SweepPaths) -> None:
    """Brings the driver's folder to what is at the URL, where that is more.

    Raises:
        UserError: the two tell different stories, or the store does not give its one.
    """
    try:
        copied = read_copy(paths)
        here = _whole_lines(paths.ledger.read_bytes()) if paths.ledger.exists() else b""
        if here.startswith(copied) and paths.settings.exists():
            return
        if not copied.startswith(here) and not here.startswith(copied):
            raise UserError(
                f"{paths.ledger} and its copy at {paths.url} tell different stories, since drivers on "
                f"two machines went on with the sweep; remove {paths.root} to go on with the copy"
            )
        settings = read_object(paths.at_url(paths.settings)).decode()
        paths.root.mkdir(parents=True, exist_ok=True)
        write_whole(paths.settings, settings)
        if len(copied) > len(here):
            write_whole(paths.ledger, copied.decode())
    except OSError as error:
        raise UserError(f"storage: {paths.url} cannot be fetched: {error}") from error


class LedgerCopy:
    """Copies a ledger as it grows, on a thread; where the store is away it catches up later.

    Args:
        paths: the sweep's, with a URL.
        require_mine: raises an OSError unless this driver alone works on the sweep.
    """

    def __init__(self, paths: SweepPaths, require_mine: Callable[[], None] = lambda: None) -> None:
        self._paths = paths
        self._require_mine = require_mine
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._begin = self._copied = 0
        self._log_copied = 0.0
        self._is_away = False
        self._last_success = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="ledger copy", daemon=True)

    def start(self) -> None:
        """Copies all that is there, with the settings, and goes on from then on.

        Raises:
            OSError: the store does not take it.
        """
        self._put(self._paths.settings)
        self._compact()
        self._thread.start()

    def held_back(self, operation: Callable[[], _Result]) -> Callable[[], _Result]:
        """The operation, which then waits until all that the ledger holds now is copied: who reads the
        copy alone must not find that more was acted on than it tells.

        The operation raises an OSError where that takes long; it may be repeated.
        """
        size = self._size

        def held_back() -> _Result:
            with self._changed:
                if not self._changed.wait_for(lambda: self._copied >= size, _WAIT_S):
                    raise StoreError(f"the ledger waits to be copied to {self._paths.url}")
            return operation()

        return held_back

    def flush(self, patience_s: float) -> bool:
        """Waits until all is copied, up to `patience_s` without progress; whether it is."""
        self._last_success = time.monotonic()
        while self._copied < self._size and time.monotonic() - self._last_success < patience_s:
            with self._changed:
                self._changed.wait(0.1)
        return self._copied >= self._size

    def close(self, patience_s: float) -> int:
        """Ends the copying, with one object where all is copied; how many events are missing."""
        is_whole = self.flush(patience_s)
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(_WAIT_S)
        if not is_whole:
            return self._paths.ledger.read_bytes()[self._copied :].count(b"\n")
        try:
            self._compact()
            self._copy_log()
        except OSError as error:
            logger.warning("the ledger's copy stays in segments: %s", error)
        return 0

    @property
    def _size(self) -> int:
        return self._paths.ledger.stat().st_size

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._copy()
                if time.monotonic() - self._log_copied > _LOG_EVERY_S:
                    self._copy_log()
                if self._is_away:
                    logger.warning("the ledger is copied again")
                self._is_away = False
            except OSError as error:
                if not self._is_away:
                    logger.warning("the ledger is not copied, trying again and again: %s", error)
                self._is_away = True
            self._closing.wait(_EVERY_S)

    def _copy(self) -> None:
        with self._paths.ledger.open("rb") as file:
            file.seek(self._begin)
            segment = _whole_lines(file.read())
        end = self._begin + len(segment)
        if end > self._copied:
            self._write(f"{_segments(self._paths)}/{self._begin:012d}.jsonl", segment)
            self._set_copied(end)
        if len(segment) >= _SEGMENT_BYTES:
            self._begin = end

    def _compact(self) -> None:
        whole = _whole_lines(self._paths.ledger.read_bytes())
        self._write(self._paths.at_url(self._paths.ledger), whole)
        remove(_segments(self._paths))
        self._begin = len(whole)
        self._set_copied(len(whole))

    def _set_copied(self, end: int) -> None:
        with self._changed:
            self._copied, self._last_success = end, time.monotonic()
            self._changed.notify_all()

    def _copy_log(self) -> None:
        self._put(self._paths.log)
        self._log_copied = time.monotonic()

    def _put(self, file: Path) -> None:
        self._write(self._paths.at_url(file), file.read_bytes())

    def _write(self, url: str, content: bytes) -> None:
        self._require_mine()
        write_object(url, content, is_patient=False)


def _segments(paths: SweepPaths) -> str:
    return f"{paths.url}/ledger"


def _whole_lines(content: bytes) -> bytes:
    return content[: content.rfind(b"\n") + 1]
