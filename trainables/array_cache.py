"""Arrays that are made once a node and that all its processes map into memory and share.

A cache is a folder with one `.npy` file an array and `manifest.json`, which has their checksums. It is
written under a temporary name and renamed, so it is whole or absent; one that is found damaged is
built anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from filelock import FileLock
from pydantic import BaseModel, ConfigDict

from trainables.errors import DataError

logger = logging.getLogger(__name__)

FORMAT = 1
MANIFEST = "manifest.json"
CACHE_VARIABLE = "MONOCON_CACHE"


class ArrayFacts(BaseModel):
    """What the manifest says of one array's file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    sha256: str
    shape: list[int]
    dtype: str


class Manifest(BaseModel):
    """The contents of `manifest.json`.

    Attributes:
        kind: what is cached.
        source: where it comes from, for people.
        arrays: by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[1]
    kind: str
    source: str
    arrays: dict[str, ArrayFacts]


@dataclass(frozen=True)
class CachedArrays:
    """Arrays mapped from a cache; writing into one changes this process's copy only.

    Attributes:
        source: where they come from, for people.
        arrays: by name.
        digest: of all of them, from their checksums; the same wherever their contents are.
    """

    source: str
    arrays: Mapping[str, np.ndarray]
    digest: str


def cache_root() -> Path:
    """The folder in which this node keeps what it downloaded, decoded and tokenised."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named).expanduser().absolute()
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser().absolute() / "monocon"


def cache_folder(kind: str, identity: Any) -> Path:
    """The folder of a cache, from what it is made of: anything that JSON can say."""
    digest = hashlib.sha256(json.dumps([kind, identity]).encode()).hexdigest()
    return cache_root() / f"{kind}-{digest[:12]}"


def identity_of_files(files: list[Path]) -> list[tuple[str, int, int]]:
    """Path, size and time of change of each file: what tells whether a cache of them is still theirs."""
    stats = [(path, path.stat()) for path in files]
    return [(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats]


def open_arrays(
    folder: Path,
    kind: str,
    source: str,
    names: Sequence[str],
    build: Callable[[], Mapping[str, np.ndarray]],
) -> CachedArrays:
    """Opens a cache and verifies it; builds it where it is missing or damaged.

    Args:
        folder: where it is.
        kind: what is cached, in one word.
        source: where it comes from, for people.
        names: of the arrays.
        build: makes them.

    Raises:
        DataError: the cache cannot be written, or `build` cannot make the arrays.
    """
    try:
        # Without the lock: a sound cache may lie where this process cannot write.
        manifest = _verify(folder, names)
    except _BrokenCacheError:
        manifest = _build_once(folder, kind, source, names, build)
    maps = {name: np.load(array_file(folder, name), mmap_mode="c") for name in names}
    digest = short_digest(f"{name} {manifest.arrays[name].sha256}" for name in sorted(names))
    return CachedArrays(manifest.source, maps, digest)


def short_digest(parts: Iterable[str]) -> str:
    """One digest of several texts, in their order."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


class _BrokenCacheError(Exception):
    """A cache is not what its manifest says; the message says in what."""


def _verify(folder: Path, names: Sequence[str]) -> Manifest:
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except OSError as error:
        raise _BrokenCacheError(f"{MANIFEST} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise _BrokenCacheError(f"{MANIFEST} is not one of format {FORMAT}") from error
    for name in names:
        facts, path = manifest.arrays.get(name), array_file(folder, name)
        try:
            digest = _sha256(path)
        except OSError as error:
            raise _BrokenCacheError(f"{path.name} cannot be read: {error.strerror}") from error
        if facts is None or facts.sha256 != digest:
            raise _BrokenCacheError(f"{path.name} does not have the checksum that {MANIFEST} says")
    return manifest


def _build_once(
    folder: Path,
    kind: str,
    source: str,
    names: Sequence[str],
    build: Callable[[], Mapping[str, np.ndarray]],
) -> Manifest:
    """Builds the cache, unless another process did while this one waited for its turn."""
    with _locked(folder):
        try:
            return _verify(folder, names)
        except _BrokenCacheError as broken:
            if folder.exists():
                logger.warning("%s: building this cache anew: %s", folder, broken)
        started = time.perf_counter()
        arrays = build()
        assert set(names) == set(arrays)
        with _naming_the_knob(folder.parent):
            _remove_leftovers(folder)
            manifest = _write(folder, kind, source, arrays)
        seconds = time.perf_counter() - started
        logger.info("%s: cached %s from %s in %.1f s", folder, kind, source, seconds)
        return manifest


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds the cache's lock, beside its folder."""
    with _naming_the_knob(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(f"{folder.name}.lock"))
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _naming_the_knob(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"data cannot be cached in {root}: {error}; set the environment variable {CACHE_VARIABLE} "
            "to a folder that can be written, with 200 MB free for each dataset"
        ) from error


def _remove_leftovers(folder: Path) -> None:
    """Removes what builders that were killed left; the lock is held, so none is at work."""
    for leftover in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _write(folder: Path, kind: str, source: str, arrays: Mapping[str, np.ndarray]) -> Manifest:
    """Writes the cache, whole or not at all; replaces what was there."""
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    replaced = partial.with_name(f"{partial.name}.replaced")
    partial.mkdir()
    try:
        facts = {name: _write_array(partial, name, array) for name, array in arrays.items()}
        manifest = Manifest(format=FORMAT, kind=kind, source=source, arrays=facts)
        (partial / MANIFEST).write_text(manifest.model_dump_json(indent=2))
        if folder.exists():
            folder.rename(replaced)
        partial.rename(folder)
        return manifest
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def _write_array(folder: Path, name: str, array: np.ndarray) -> ArrayFacts:
    path = array_file(folder, name)
    np.save(path, array)
    return ArrayFacts(sha256=_sha256(path), shape=list(array.shape), dtype=str(array.dtype))


def array_file(folder: Path, name: str) -> Path:
    """The file of one array of a cache."""
    return folder / f"{name}.npy"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
