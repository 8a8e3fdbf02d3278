"""Folders that are whole or absent, whenever their writer is killed.

Used by `trainables.snapshots` and `trainables.evaluation`.
"""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from trainables.disk import says_where_it_is_full
from trainables.places import Place, is_url, upload_folder
from trainables.temporary_folder import temporary_folder


@contextlib.contextmanager
def whole_folder(folder: Place) -> Iterator[Path]:
    """Gives a folder to write into, which takes the place of `folder` once the block ends well.

    Raises:
        trainables.disk.DiskFullError: the disk is full; what was there stays.
        OSError: the store does not take it; there is nothing whole then.
    """
    if is_url(folder):
        with temporary_folder() as copy:
            with says_where_it_is_full(copy):
                yield copy
            upload_folder(copy, folder)
        return
    folder = Path(folder)
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    replaced = partial.with_name(f"{partial.name}.replaced")
    try:
        with says_where_it_is_full(folder):
            partial.mkdir(parents=True)
            yield partial
            if folder.exists():
                folder.rename(replaced)
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)
