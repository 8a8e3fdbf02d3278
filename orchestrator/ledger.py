"""The append-only log of a sweep's events: one checksummed JSON line each, on disk before anything
acts on it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

from orchestrator.errors import UserError
from orchestrator.events import Event, from_dict, to_dict
from trainables.disk import AWAY

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0


class Ledger:
    """An open ledger, of which one process at a time is the writer.

    Args:
        path: its file.
        patience_s: for a storage that is away to come back.

    Raises:
        UserError: another process has it open, so a driver works on the sweep; or its disk takes no
            locks.
    """

    def __init__(self, path: Path, patience_s: float = 60.0) -> None:
        self.path = path
        self._patience_s = patience_s
        # No buffer: one that could not be written would be tried again with the next event.
        self._file = path.open("ab", buffering=0)
        self._lock = threading.Lock()
        try:
            # The system takes it back when the process ends, however it does.
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise UserError(f"{path}: another process works on this sweep; end it first") from None
        except OSError as error:
            self._file.close()
            raise UserError(
                f"storage: {path} cannot be locked ({error.strerror}), so nothing would keep another "
                "driver from it; mount its disk with locks (Lustre: -o flock), or set another folder",
                location=("storage",),
            ) from error
        _drop_torn_line(path)
        self._end = path.stat().st_size

    def append(self, event: Event) -> None:
        """Returns once the event is on disk; any thread may call it.

        Raises:
            OSError: it cannot be written, and nothing is; or the file is gone.
        """
        line, deadline = encode(event), time.monotonic() + self._patience_s
        with self._lock:
            while True:
                try:
                    return self._append(line)
                except OSError as error:
                    if error.errno not in AWAY or time.monotonic() >= deadline:
                        raise
                    logger.warning("%s cannot be written, trying again: %s", self.path, error)
                    time.sleep(_LOOK_EVERY_S)

    def _append(self, line: bytes) -> None:
        if os.fstat(self._file.fileno()).st_nlink == 0:
            raise FileNotFoundError(errno.ENOENT, "the ledger was removed", str(self.path))
        try:
            self._cut()  # once more, since after an error it may have failed too
            self._write(line)
        except OSError:
            # What there was room for would be damage as soon as something follows it.
            with contextlib.suppress(OSError):
                self._cut()
            raise
        self._end += len(line)

    def _cut(self) -> None:
        """Leaves whole lines."""
        if os.fstat(self._file.fileno()).st_size > self._end:
            os.ftruncate(self._file.fileno(), self._end)

    def _write(self, line: bytes) -> None:
        while line:
            line = line[self._file.write(line) :]
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def encode(event: Event) -> bytes:
    """One line: eight hex digits of the CRC-32 of the JSON text, a space, the JSON text."""
    text = json.dumps(to_dict(event), separators=(",", ":"), allow_nan=True).encode()
    return f"{zlib.crc32(text):08x} ".encode() + text + b"\n"


def decode(line: bytes) -> Event:
    """Inverts `encode`.

    Raises:
        ValueError: the line is torn or altered.
    """
    checksum, _, text = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or checksum != f"{zlib.crc32(text):08x}".encode():
        raise ValueError("its checksum is wrong")
    return from_dict(json.loads(text))


def read_ledger(path: Path) -> Iterator[Event]:
    """The events of a ledger, in order. A torn last line is dropped with a warning.

    Raises:
        UserError: a line before the last is damaged.
    """
    lines = path.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        try:
            yield decode(line)
        except ValueError as error:
            if line.endswith(b"\n"):
                raise UserError(f"{path}:{number}: the ledger is damaged here: {error}") from None
            logger.warning("%s:%d: dropped the last line, which was cut short", path, number)


class LedgerReader:
    """Reads a ledger that another process writes to, from where it was last read to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place = 0

    def read(self) -> list[Event]:
        """The events that are new; a line that is not whole yet is left for the next time.

        Raises:
            ValueError: a line is damaged.
        """
        with self._path.open("rb") as file:
            file.seek(self._place)
            lines = file.read().splitlines(keepends=True)
        whole = [line for line in lines if line.endswith(b"\n")]
        events = [decode(line) for line in whole]
        self._place += sum(map(len, whole))
        return events


def _drop_torn_line(path: Path) -> None:
    """Cuts a file to its last whole line, so that what is appended starts a new one."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        logger.warning("%s: dropped the last line, which was cut short", path)
        os.truncate(path, whole)
