"""Folders that are whole or absent, whenever their writer is killed.

Used by `trainables.snapshots` and `trainables.evaluation`.
"""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Gives a folder to write into, which takes the place of `folder` once the block ends well."""
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    replaced = partial.with_name(f"{partial.name}.replaced")
    partial.mkdir(parents=True)
    try:
        yield partial
        if folder.exists():
            folder.rename(replaced)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)
