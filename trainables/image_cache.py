"""Images decoded once a node into arrays that all its processes map into memory and share.

A cache is a folder with four `.npy` files and `manifest.json`, which has their checksums. It is
written under a temporary name and renamed, so it is whole or absent; one that is found damaged is
built anew. `trainables.images` opens it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import random
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from filelock import FileLock
from jaxtyping import Int64, UInt8
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from trainables.image_sources import (
    CACHE_VARIABLE,
    TORCHVISION,
    RawImages,
    cache_root,
    find_directory,
    parquet_files,
    read_images,
)
from trainables.image_tables import DataError, ImageDataset, default_source

logger = logging.getLogger(__name__)

FORMAT = 1
MANIFEST = "manifest.json"
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
SPLIT_SEED = 42
NUM_TRAIN_ROWS = 50_000
NUM_VALIDATION_ROWS = 5_000
VALIDATION_SHA256 = "484aae7c022ff616"


@dataclass(frozen=True)
class CachedImages:
    """A dataset mapped from its cache; writing into a tensor changes this process's copy only.

    Attributes:
        train_images: in the order of `split_order`, so that training and validation set are slices.
        train_labels: in the same order.
        test_images: in the source's order.
        test_labels: in the source's order.
        source: where the images come from: a hub id, an absolute path, or torchvision.
        is_original_order: whether the source's rows are in the order of the authors' archive, so
            that the validation set has the images it has elsewhere.
    """

    train_images: UInt8[Tensor, "train 3 32 32"]
    train_labels: Int64[Tensor, " train"]
    test_images: UInt8[Tensor, "test 3 32 32"]
    test_labels: Int64[Tensor, " test"]
    source: str
    is_original_order: bool


class ArrayFacts(BaseModel):
    """What the manifest says of one array's file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    sha256: str
    shape: list[int]
    dtype: str


class Manifest(BaseModel):
    """The contents of `manifest.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[1]
    dataset: ImageDataset
    source: str
    is_original_order: bool
    arrays: dict[str, ArrayFacts]


def open_images(dataset: ImageDataset, source: str | None) -> CachedImages:
    """Opens a dataset's cache, verified once a process; builds it where it is missing or damaged.

    Args:
        dataset: which one.
        source: as `data.source`; None: the dataset's usual hub id.

    Raises:
        DataError: the source cannot be read, or the cache cannot be written.
    """
    named = source or default_source(dataset)
    directory = find_directory(named)
    resolved = str(directory or named)
    stats = [(path, path.stat()) for path in parquet_files(directory)] if directory else []
    files = [(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats]
    identity = hashlib.sha256(json.dumps([dataset, resolved, files]).encode()).hexdigest()
    return open_folder(cache_root() / f"{dataset}-{identity[:12]}", dataset, resolved)


@functools.lru_cache(maxsize=4)
def open_folder(folder: Path, dataset: ImageDataset, source: str) -> CachedImages:
    """Opens the cache in `folder`, once a process."""
    try:
        # Without the lock: a sound cache may lie where this process cannot write.
        manifest = _verify(folder)
    except _BrokenCacheError:
        manifest = _build_once(folder, dataset, source)
    maps = {name: np.load(_array_file(folder, name), mmap_mode="c") for name in ARRAYS}
    return CachedImages(
        **{name: torch.from_numpy(array) for name, array in maps.items()},
        source=manifest.source,
        is_original_order=manifest.is_original_order,
    )


def split_order(num_rows: int = NUM_TRAIN_ROWS) -> list[int]:
    """The order of the training rows: the first 45,000 are trained on, the last 5,000 validate."""
    order = list(range(num_rows))
    random.Random(SPLIT_SEED).shuffle(order)
    if num_rows == NUM_TRAIN_ROWS:
        validation = np.array(order[-NUM_VALIDATION_ROWS:], "<i8").tobytes()
        assert hashlib.sha256(validation).hexdigest().startswith(VALIDATION_SHA256)
    return order


class _BrokenCacheError(Exception):
    """A cache is not what its manifest says; the message says in what."""


def _verify(folder: Path) -> Manifest:
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except OSError as error:
        raise _BrokenCacheError(f"{MANIFEST} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise _BrokenCacheError(f"{MANIFEST} is not one of format {FORMAT}") from error
    for name in ARRAYS:
        facts, path = manifest.arrays.get(name), _array_file(folder, name)
        try:
            digest = _sha256(path)
        except OSError as error:
            raise _BrokenCacheError(f"{path.name} cannot be read: {error.strerror}") from error
        if facts is None or facts.sha256 != digest:
            raise _BrokenCacheError(f"{path.name} does not have the checksum that {MANIFEST} says")
    return manifest


def _build_once(folder: Path, dataset: ImageDataset, source: str) -> Manifest:
    """Builds the cache, unless another process did while this one waited for its turn."""
    with _locked(folder):
        try:
            return _verify(folder)
        except _BrokenCacheError as broken:
            if folder.exists():
                logger.warning("%s: building this cache of images anew: %s", folder, broken)
        started = time.perf_counter()
        raw = read_images(dataset, source)
        with _naming_the_knob(folder.parent):
            _remove_leftovers(folder)
            manifest = _write(folder, dataset, source, raw)
        num_rows = len(raw.train_labels) + len(raw.test_labels)
        seconds = time.perf_counter() - started
        logger.info("%s: cached %d images from %s in %.1f s", folder, num_rows, source, seconds)
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
            f"decoded images cannot be cached in {root}: {error}; set the environment variable "
            f"{CACHE_VARIABLE} to a folder that can be written, with 200 MB free for each dataset"
        ) from error


def _remove_leftovers(folder: Path) -> None:
    """Removes what builders that were killed left; the lock is held, so none is at work."""
    for leftover in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _write(folder: Path, dataset: ImageDataset, source: str, raw: RawImages) -> Manifest:
    """Writes the cache, whole or not at all; replaces what was there."""
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    replaced = partial.with_name(f"{partial.name}.replaced")
    partial.mkdir()
    try:
        arrays = _write_arrays(partial, raw)
        manifest = Manifest(
            format=FORMAT,
            dataset=dataset,
            source=source,
            is_original_order=source == TORCHVISION,
            arrays=arrays,
        )
        (partial / MANIFEST).write_text(manifest.model_dump_json(indent=2))
        if folder.exists():
            folder.rename(replaced)
        partial.rename(folder)
        return manifest
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def _write_arrays(folder: Path, raw: RawImages) -> dict[str, ArrayFacts]:
    order = np.array(split_order(len(raw.train_labels)))
    facts = {}
    for name in ARRAYS:
        array: np.ndarray = getattr(raw, name)
        if name.startswith("train"):
            array = array[order]
        path = _array_file(folder, name)
        np.save(path, array)
        facts[name] = ArrayFacts(sha256=_sha256(path), shape=list(array.shape), dtype=str(array.dtype))
    return facts


def _array_file(folder: Path, name: str) -> Path:
    return folder / f"{name}.npy"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
