"""The append-only log of a sweep's events: one checksummed JSON line each, on disk before anything
acts on it.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

from orchestrator.errors import UserError
from orchestrator.events import Event, from_dict, to_dict

logger = logging.getLogger(__name__)


class Ledger:
    """An open ledger, of which one process at a time is the writer.

    Raises:
        UserError: another process has it open, so a driver works on the sweep.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # No buffer: one that could not be written would be tried again with the next event.
        self._file = path.open("ab", buffering=0)
        self._lock = threading.Lock()
        try:
            # The system takes it back when the process ends, however it does.
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise UserError(f"{path}: another process works on this sweep; end it first") from None
        _drop_torn_line(path)

    def append(self, event: Event) -> None:
        """Returns once the event is on disk; any thread may call it.

        Raises:
            OSError: it cannot be written, and nothing is; or the file is gone.
        """
        with self._lock:
            if os.fstat(self._file.fileno()).st_nlink == 0:
                raise FileNotFoundError(errno.ENOENT, "the ledger was removed", str(self.path))
            end = os.fstat(self._file.fileno()).st_size
            try:
                self._write(encode(event))
            except OSError:
                # What there was room for would be damage as soon as something follows it.
                os.ftruncate(self._file.fileno(), end)
                raise

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


def _drop_torn_line(path: Path) -> None:
    """Cuts a file to its last whole line, so that what is appended starts a new one."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        logger.warning("%s: dropped the last line, which was cut short", path)
        os.truncate(path, whole)
