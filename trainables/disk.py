"""What is said where a disk takes no more: the file, the room that is left, what to do.

Used by whatever writes for a trial, and by the driver of a sweep. Pure but for asking the system for
the room; imports no torch.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

AWAY = {
    errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EREMOTEIO, errno.EAGAIN,
    errno.ENOTCONN, errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH,
    errno.ENETDOWN, errno.ENETUNREACH,
}  # fmt: skip
"""What a network's file system says while its server is away."""
_FULL = {errno.ENOSPC: "its disk is full", errno.EDQUOT: "the quota on its disk is used up"}


class DiskFullError(OSError):
    """A file cannot be written for want of room; the message is a whole sentence."""

    def __str__(self) -> str:
        return str(self.strerror)


@contextlib.contextmanager
def says_where_it_is_full(path: Path) -> Iterator[None]:
    """Makes a DiskFullError of the system's own error, which names no file.

    Args:
        path: what is written in the block.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL or isinstance(error, DiskFullError):
            raise
        advice = "make room there, or have it written elsewhere"
        raise DiskFullError(error.errno, f"{cannot_write(path, error)}; {advice}") from error


def cannot_write(path: Path, error: OSError) -> str:
    """Half a sentence: what cannot be written and why, with the room that is left where that is why."""
    if error.errno not in _FULL:
        return f"{path} cannot be written: {error.strerror or error}"
    return f"{path} cannot be written: {_FULL[error.errno]}, {_room(path)} free"


def _room(path: Path) -> str:
    """Of the disk that holds the nearest folder that is there."""
    folder = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    num_bytes = float(shutil.disk_usage(folder).free)
    for unit in ("B", "KiB", "MiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.0f} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.1f} GiB"
