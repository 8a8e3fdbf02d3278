"""Reads CIFAR-10 and CIFAR-100 from where they are: the hub, a directory, or their authors' archive.

`trainables.image_cache` calls it once a node and source; `trainables.image_tables` checks and decodes.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64, UInt8

from trainables import image_tables
from trainables.image_tables import (
    DataError,
    ImageDataset,
    brief,
    damaged_file,
    decode,
    default_source,
    take_splits,
)

if TYPE_CHECKING:
    import pyarrow

logger = logging.getLogger(__name__)

TORCHVISION = "torchvision"
CACHE_VARIABLE = "MONOCON_CACHE"
HUB_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class RawImages:
    """Both splits of a dataset in the row order of their source."""

    train_images: UInt8[np.ndarray, "train 3 32 32"]
    train_labels: Int64[np.ndarray, " train"]
    test_images: UInt8[np.ndarray, "test 3 32 32"]
    test_labels: Int64[np.ndarray, " test"]


def cache_root() -> Path:
    """The folder in which this node keeps what it downloaded and decoded."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named).expanduser().absolute()
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser().absolute() / "monocon"


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
        with _without_noise(), tempfile.TemporaryDirectory() as locks:
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

    fault = _hub_fault(source)
    has_answered = fault is None or isinstance(fault, HfHubHTTPError)
    if not has_answered:
        logger.info("%s: the hub is out of reach, looking among earlier downloads", source)
    try:
        with _without_noise(), contextlib.nullcontext() if has_answered else _downloads_only():
            return take_splits(load_dataset(source), dataset, source)
    except DataError:
        raise
    except Exception as error:  # What httpx, pyarrow and yaml raise shares no base.
        raise DataError(_hub_message(dataset, source, fault or error)) from error


def _hub_fault(source: str) -> Exception | None:
    """Why the hub has no answer for `source`; asked once, where `load_dataset` would retry for long."""
    from datasets import config
    from huggingface_hub import HfApi

    try:
        with _without_noise():
            HfApi(endpoint=config.HF_ENDPOINT).dataset_info(source, timeout=HUB_TIMEOUT_S)
    except Exception as error:  # noqa: BLE001 - which HTTP library's errors these are varies by version
        return error
    return None


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


@contextlib.contextmanager
def _downloads_only() -> Iterator[None]:
    """Has `datasets` use what it downloaded earlier, without asking the hub."""
    from datasets import config

    was_offline = config.HF_HUB_OFFLINE
    config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE = was_offline


@contextlib.contextmanager
def _without_noise() -> Iterator[None]:
    """Keeps `datasets` and `huggingface_hub` from progress bars and from logging what we report."""
    import datasets.utils.logging
    import huggingface_hub.utils.logging

    with contextlib.ExitStack() as stack:
        for library in (datasets, huggingface_hub):
            log = library.utils.logging
            stack.callback(log.set_verbosity, log.get_verbosity())
            log.set_verbosity(logging.CRITICAL)
            if not library.utils.are_progress_bars_disabled():
                stack.callback(library.utils.enable_progress_bars)
                library.utils.disable_progress_bars()
        yield


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
