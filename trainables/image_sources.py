"""Reads CIFAR-10 and CIFAR-100 from where they are: the hub, a directory, or their authors' archive.

`trainables.image_cache` calls it once a node and source; `trainables.image_tables` checks and decodes.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import logging
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64, UInt8

from trainables import image_tables
from trainables.array_cache import CACHE_VARIABLE, cache_root
from trainables.errors import DataError
from trainables.hub import brief, downloads_only, hub_fault, without_noise
from trainables.image_tables import (
    ImageDataset,
    damaged_file,
    decode,
    default_source,
    take_splits,
)

if TYPE_CHECKING:
    import pyarrow

logger = logging.getLogger(__name__)

TORCHVISION = "torchvision"


@dataclass(frozen=True)
class RawImages:
    """Both splits of a dataset in the row order of their source."""

    train_images: UInt8[np.ndarray, "train 3 32 32"]
    train_labels: Int64[np.ndarray, " train"]
    test_images: UInt8[np.ndarray, "test 3 32 32"]
    test_labels: Int64[np.ndarray, " test"]


def read_images(dataset: ImageDataset, source: str) -> RawImages:
    """Reads and decodes a dataset: its 60,000 images take one core about 6 s.

    Args:
        dataset: which one.
        source: "torchvision", a directory of Parquet files, or a hub id.

    Raises:
        DataError: the source cannot be reached, or is not the whole dataset, undamaged.
    """
    if source == TORCHVISION:
        return _read_torchvision(dataset)
    tables = _read_tables(dataset, source)
    parts = [decode(table, dataset, f"split {split} of {source}") for split, table in tables.items()]
    (train_images, train_labels), (test_images, test_labels) = parts
    return RawImages(train_images, train_labels, test_images, test_labels)


def find_directory(source: str) -> Path | None:
    """The directory that a source names; None for a hub id and for torchvision.

    Raises:
        DataError: it is spelled as a path, and there is no directory.
    """
    path = Path(source)
    with contextlib.suppress(RuntimeError):  # There is no such user: no such directory either.
        path = path.expanduser()
    is_spelled_so = source.startswith((".", "/", "~"))
    # A folder that happens to be called like a hub id is no source.
    if source == TORCHVISION or not (is_spelled_so or path.is_file() or any(path.rglob("*.parquet"))):
        return None
    if not path.is_dir():
        fault = "is not a directory" if path.exists() else "does not exist"
        raise DataError(
            f"data.source: {path.absolute()} {fault}; name a directory of Parquet files on this node, "
            "a hub id, or torchvision"
        )
    return path.resolve()


def parquet_files(directory: Path) -> list[Path]:
    """The Parquet files in a directory and below it, sorted.

    Raises:
        DataError: it has none, or its name has wildcards in it.
    """
    if set("*?[]") & set(str(directory)):
        raise DataError(
            f"data.source: Hugging Face datasets takes the brackets, * or ? in {directory} for "
            "wildcards; rename the directory"
        )
    found = sorted(path for path in directory.rglob("*.parquet") if path.is_file())
    if not found:
        raise DataError(
            f"data.source: {directory} has no Parquet files; it needs train-*.parquet and "
            "test-*.parquet, there or in a folder below"
        )
    return found


def _read_tables(dataset: ImageDataset, source: str) -> dict[str, pyarrow.Table]:
    """The undecoded rows of both splits."""
    directory = find_directory(source)
    if directory is None:
        return _read_hub(dataset, source)
    files = parquet_files(directory)
    from datasets import load_dataset

    try:
        # Streaming reads the files themselves; otherwise they are first copied into a cache.
        with without_noise(), tempfile.TemporaryDirectory() as locks:
            splits = load_dataset(str(directory), streaming=True, cache_dir=locks)
            return take_splits(splits, dataset, source)
    except DataError:
        raise
    except Exception as error:  # What pyarrow, fsspec and yaml raise shares no base.
        fault = damaged_file(files) or (
            f"{directory} cannot be read as one dataset: {brief(error)}; it should have the files of "
            f"{default_source(dataset)} and no others"
        )
        raise DataError(f"data.source: {fault}") from error


def _read_hub(dataset: ImageDataset, source: str) -> dict[str, pyarrow.Table]:
    from datasets import load_dataset
    from huggingface_hub.errors import HfHubHTTPError

    fault = hub_fault(source, "dataset")
    has_answered = fault is None or isinstance(fault, HfHubHTTPError)
    if not has_answered:
        logger.info("%s: the hub is out of reach, looking among earlier downloads", source)
    try:
        with without_noise(), contextlib.nullcontext() if has_answered else downloads_only():
            return take_splits(load_dataset(source), dataset, source)
    except DataError:
        raise
    except Exception as error:  # What httpx, pyarrow and yaml raise shares no base.
        raise DataError(_hub_message(dataset, source, fault or error)) from error


def _hub_message(dataset: ImageDataset, source: str, error: Exception) -> str:
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    hub_id = default_source(dataset)
    directory = f"a directory with the Parquet files of {hub_id}"
    if isinstance(error, (HFValidationError, RepositoryNotFoundError)):
        fault = (
            f"{source!r} is neither a directory nor a hub id"
            if isinstance(error, HFValidationError)
            else f"the hub has no dataset {source}, or you may not read it"
        )
        return (
            f"data.source: {fault}; set it to {directory} (a relative path begins with ./), "
            f"to {hub_id}, or to torchvision"
        )
    return (
        f"data.source: {source} cannot be had from the hub: {brief(error)}; either give this node "
        f"network access to the hub, or set data.source to {directory}"
    )


def _read_torchvision(dataset: ImageDataset) -> RawImages:
    """The authors' archive, which torchvision downloads and whose checksum it knows."""
    import torchvision

    folder = cache_root() / TORCHVISION
    kind = {"cifar10": torchvision.datasets.CIFAR10, "cifar100": torchvision.datasets.CIFAR100}[dataset]
    logger.info(
        "%s: reading torchvision's copy, downloaded into %s where it is not there", dataset, folder
    )
    try:
        # Its progress bar goes to stderr unconditionally.
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            # Some releases of numpy 2.4 warn of the old pickles in the archive (pytorch/vision#9340).
            warnings.filterwarnings("ignore", message=r"dtype\(\): align")
            parts = [kind(folder, train=is_train, download=True) for is_train in (True, False)]
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise DataError(
            f"data.source: torchvision cannot download {dataset} into {folder}: {brief(error)}; give "
            f"this node network access to {kind.url}, or put {kind.filename} into that folder (its root "
            f"is {CACHE_VARIABLE}), or set data.source to a directory with the Parquet files of "
            f"{default_source(dataset)}"
        ) from error
    arrays = []
    for part, num_rows in zip(parts, image_tables.NUM_ROWS.values(), strict=True):
        assert len(part.data) == len(part.targets) == num_rows, "torchvision knows the checksums"
        arrays.append(np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)))
        arrays.append(np.asarray(part.targets, np.int64))
    return RawImages(*arrays)
