"""CIFAR's images decoded once a node, in the order of the split. `trainables.images` opens it."""

from __future__ import annotations

import functools
import hashlib
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from trainables.array_cache import cache_folder, identity_of_files, open_arrays
from trainables.image_sources import TORCHVISION, find_directory, parquet_files, read_images
from trainables.image_tables import SPLIT_SEED, ImageDataset, default_source

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
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
        digest: of all images and labels.
    """

    train_images: UInt8[Tensor, "train 3 32 32"]
    train_labels: Int64[Tensor, " train"]
    test_images: UInt8[Tensor, "test 3 32 32"]
    test_labels: Int64[Tensor, " test"]
    source: str
    is_original_order: bool
    digest: str


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
    files = identity_of_files(parquet_files(directory)) if directory else []
    return open_folder(cache_folder(dataset, [resolved, files]), dataset, resolved)


@functools.lru_cache(maxsize=4)
def open_folder(folder: Path, dataset: ImageDataset, source: str) -> CachedImages:
    """Opens the cache in `folder`, once a process."""
    cached = open_arrays(folder, dataset, source, ARRAYS, lambda: _build(dataset, source))
    return CachedImages(
        **{name: torch.from_numpy(array) for name, array in cached.arrays.items()},
        source=cached.source,
        is_original_order=cached.source == TORCHVISION,
        digest=cached.digest,
    )


def _build(dataset: ImageDataset, source: str) -> dict[str, np.ndarray]:
    raw = read_images(dataset, source)
    order = np.array(split_order(len(raw.train_labels)))
    arrays: dict[str, np.ndarray] = {name: getattr(raw, name) for name in ARRAYS}
    return {name: array[order] if name.startswith("train") else array for name, array in arrays.items()}


def split_order(num_rows: int = NUM_TRAIN_ROWS) -> list[int]:
    """The order of the training rows: the first 45,000 are trained on, the last 5,000 validate."""
    order = list(range(num_rows))
    random.Random(SPLIT_SEED).shuffle(order)
    if num_rows == NUM_TRAIN_ROWS:
        validation = np.array(order[-NUM_VALIDATION_ROWS:], "<i8").tobytes()
        assert hashlib.sha256(validation).hexdigest().startswith(VALIDATION_SHA256)
    return order
