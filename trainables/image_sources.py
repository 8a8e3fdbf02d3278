"""Reads CIFAR-10 and CIFAR-100 from where they are: the hub, a directory, or their authors' archive.

`trainables.image_cache` calls it once a node and source; what is read is checked row by row, so that
a wrong or damaged source is refused here and not noticed in a result.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from trainables.config import DATASET_FACTS

if TYPE_CHECKING:
    import pyarrow

logger = logging.getLogger(__name__)

ImageDataset = Literal["cifar10", "cifar100"]

TORCHVISION = "torchvision"
CACHE_VARIABLE = "MONOCON_CACHE"
DEFAULT_SOURCES: dict[ImageDataset, str] = {"cifar10": "uoft-cs/cifar10", "cifar100": "uoft-cs/cifar100"}
LABEL_COLUMNS: dict[ImageDataset, str] = {"cifar10": "label", "cifar100": "fine_label"}
IMAGE_COLUMN = "img"
NUM_ROWS = {"train": 50_000, "test": 10_000}
"""The splits of both datasets."""

HUB_TIMEOUT_S = 10.0


class DataError(ValueError):
    """The data that was asked for cannot be had; the message says what is wrong and what to change."""


@dataclass(frozen=True)
class RawImages:
    """Both splits of a dataset in the row order of their source."""

    train_images: UInt8[np.ndarray, "train 3 32 32"]
    train_labels: Int64[np.ndarray, " train"]
    test_images: UInt8[np.ndarray, "test 3 32 32"]
    test_labels: Int64[np.ndarray, " test"]


def default_source(dataset: ImageDataset) -> str:
    """The hub id that is read where `data.source` names nothing."""
    return DEFAULT_SOURCES[dataset]


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
    parts = [_decode(table, dataset, f"split {split} of {source}") for split, table in tables.items()]
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
            return _take_splits(splits, dataset, source)
    except DataError:
        raise
    except Exception as error:  # What pyarrow, fsspec and yaml raise shares no base.
        fault = _damaged_file(files) or (
            f"{directory} cannot be read as one dataset: {_brief(error)}; it should have the files of "
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
            return _take_splits(load_dataset(source), dataset, source)
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
        f"data.source: {source} cannot be had from the hub: {_brief(error)}; either give this node "
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


def _take_splits(
    splits: Mapping[Any, Any], dataset: ImageDataset, source: str
) -> dict[str, pyarrow.Table]:
    for split in NUM_ROWS:
        if split not in splits:
            raise DataError(
                f"data.source: {source} has no split {split}, only {_listed(splits)}; its files are "
                "told apart by their names, train-*.parquet and test-*.parquet"
            )
    return {split: _take_rows(splits[split], split, dataset, source) for split in NUM_ROWS}


def _take_rows(rows: Any, split: str, dataset: ImageDataset, source: str) -> pyarrow.Table:
    """All rows of a split, if they are as many as they should be and have the right columns."""
    import pyarrow

    tables: list[pyarrow.Table] = []
    num_rows = 0
    for table in rows.with_format("arrow").iter(batch_size=1000):
        _check_columns(table.schema, dataset, f"split {split} of {source}")
        tables.append(table)
        num_rows += len(table)
        if num_rows > NUM_ROWS[split]:
            break
    if num_rows != NUM_ROWS[split]:
        got = f"{num_rows:,}" if num_rows < NUM_ROWS[split] else f"more than {NUM_ROWS[split]:,}"
        raise DataError(
            f"data.source: split {split} of {source} has {got} rows, {dataset} has {NUM_ROWS[split]:,}; "
            f"take all files of {default_source(dataset)}, and no others"
        )
    return pyarrow.concat_tables(tables)


def _check_columns(schema: pyarrow.Schema, dataset: ImageDataset, place: str) -> None:
    from pyarrow import types

    label_column = LABEL_COLUMNS[dataset]
    missing = [name for name in (IMAGE_COLUMN, label_column) if name not in schema.names]
    if missing:
        raise DataError(
            f"data.source: {place} has no column {' and no column '.join(missing)}, only "
            f"{_listed(schema.names)}; {dataset} is read from {IMAGE_COLUMN} and {label_column}"
        )
    images, labels = schema.field(IMAGE_COLUMN).type, schema.field(label_column).type
    if not types.is_struct(images) or not any(field.name == "bytes" for field in images):
        raise DataError(
            f"data.source: {place}: {IMAGE_COLUMN} holds {images}, not images with their bytes"
        )
    if not types.is_integer(labels):
        raise DataError(f"data.source: {place}: {label_column} holds {labels}, not whole numbers")


def _damaged_file(files: list[Path]) -> str | None:
    """Which of the files cannot be read by itself, and why."""
    import pyarrow
    from pyarrow import parquet

    for path in files:
        try:
            parquet.read_table(path)
        except (OSError, pyarrow.ArrowException) as error:
            return f"{path} cannot be read: {_brief(error)}; copy it anew"
    return None


def _decode(
    table: pyarrow.Table, dataset: ImageDataset, place: str
) -> tuple[UInt8[np.ndarray, "item 3 32 32"], Int64[np.ndarray, " item"]]:
    labels = table.column(LABEL_COLUMNS[dataset])
    if labels.null_count:
        raise DataError(
            f"data.source: {place}: {labels.null_count:,} rows have no {LABEL_COLUMNS[dataset]}"
        )
    numbers = labels.to_numpy().astype(np.int64)
    _check_labels(numbers, dataset, place)
    images = np.empty((len(table), *DATASET_FACTS[dataset].item_shape), np.uint8)
    encoded = table.select([IMAGE_COLUMN]).flatten().column(f"{IMAGE_COLUMN}.bytes")
    for row, image in enumerate(encoded.to_pylist()):
        images[row] = _decode_image(image, f"row {row} of {place}").transpose(2, 0, 1)
    return images, numbers


def _decode_image(encoded: bytes | None, place: str) -> UInt8[np.ndarray, "h w channel"]:
    if encoded is None:
        raise DataError(f"data.source: {place} has no image bytes")
    try:
        image = Image.open(io.BytesIO(encoded), formats=("PNG", "WEBP"))
        pixels = np.asarray(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"data.source: the image in {place} is not an undamaged PNG or WebP: {_brief(error)}; "
            "copy the file anew"
        ) from error
    if image.mode != "RGB" or image.size != (32, 32):
        width, height = image.size
        raise DataError(
            f"data.source: the image in {place} is {width}x{height} {image.mode}, not 32x32 RGB; "
            "take the unchanged dataset"
        )
    return pixels


def _check_labels(labels: Int64[np.ndarray, " item"], dataset: ImageDataset, place: str) -> None:
    num_classes = DATASET_FACTS[dataset].num_classes
    outside = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if outside.size:
        raise DataError(
            f"data.source: row {outside[0]} of {place} has label {labels[outside[0]]}, {dataset} has "
            f"labels 0 to {num_classes - 1}; is it another dataset?"
        )
    absent = sorted(set(range(num_classes)) - set(labels.tolist()))
    if absent:
        raise DataError(
            f"data.source: {place} has no image of {len(absent)} of the {num_classes} classes of "
            f"{dataset}, the first is {absent[0]}; take the whole dataset"
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
            f"data.source: torchvision cannot download {dataset} into {folder}: {_brief(error)}; give "
            f"this node network access to {kind.url}, or put {kind.filename} into that folder (its root "
            f"is {CACHE_VARIABLE}), or set data.source to a directory with the Parquet files of "
            f"{default_source(dataset)}"
        ) from error
    arrays = []
    for part, num_rows in zip(parts, NUM_ROWS.values(), strict=True):
        assert len(part.data) == len(part.targets) == num_rows, "torchvision knows the checksums"
        arrays.append(np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)))
        arrays.append(np.asarray(part.targets, np.int64))
    return RawImages(*arrays)


def _listed(names: Any) -> str:
    return ", ".join(map(str, names)) or "none"


def _brief(error: Exception) -> str:
    """An error in one line of bearable length."""
    text = " ".join(str(error).split())
    return f"{text[:300] or 'no reason given'} ({type(error).__name__})"
