"""Tables of encoded images to arrays, checked row by row, so that a wrong or damaged source is refused
here and not noticed in a result. Called by `trainables.image_sources`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from trainables.errors import DataError
from trainables.hub import brief

if TYPE_CHECKING:
    import pyarrow

ImageDataset = Literal["cifar10", "cifar100"]

DEFAULT_SOURCES: dict[ImageDataset, str] = {"cifar10": "uoft-cs/cifar10", "cifar100": "uoft-cs/cifar100"}
LABEL_COLUMNS: dict[ImageDataset, str] = {"cifar10": "label", "cifar100": "fine_label"}
IMAGE_COLUMN = "img"
IMAGE_SHAPE = (3, 32, 32)
NUM_CLASSES: dict[ImageDataset, int] = {"cifar10": 10, "cifar100": 100}
NUM_ROWS = {"train": 50_000, "test": 10_000}
"""The splits of both datasets."""
SPLIT_SEED = 42
"""Of the shuffle that says which images validate, of every dataset."""


def default_source(dataset: ImageDataset) -> str:
    """The hub id that is read where `data.source` names nothing."""
    return DEFAULT_SOURCES[dataset]


def take_splits(
    splits: Mapping[Any, Any], dataset: ImageDataset, source: str
) -> dict[str, pyarrow.Table]:
    """The undecoded rows of both splits of what `datasets` loaded.

    Raises:
        DataError: a split is missing, or has other columns or another number of rows.
    """
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


def damaged_file(files: list[Path]) -> str | None:
    """Which of the files cannot be read by itself, and why."""
    import pyarrow
    from pyarrow import parquet

    for path in files:
        try:
            parquet.read_table(path)
        except (OSError, pyarrow.ArrowException) as error:
            return f"{path} cannot be read: {brief(error)}; copy it anew"
    return None


def decode(
    table: pyarrow.Table, dataset: ImageDataset, place: str
) -> tuple[UInt8[np.ndarray, "item 3 32 32"], Int64[np.ndarray, " item"]]:
    """Images and labels of a split.

    Raises:
        DataError: an image is damaged or of another shape, or a label is not one of the dataset's.
    """
    labels = table.column(LABEL_COLUMNS[dataset])
    if labels.null_count:
        raise DataError(
            f"data.source: {place}: {labels.null_count:,} rows have no {LABEL_COLUMNS[dataset]}"
        )
    numbers = labels.to_numpy().astype(np.int64)
    _check_labels(numbers, dataset, place)
    images = np.empty((len(table), *IMAGE_SHAPE), np.uint8)
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
            f"data.source: the image in {place} is not an undamaged PNG or WebP: {brief(error)}; "
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
    num_classes = NUM_CLASSES[dataset]
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


def _listed(names: Any) -> str:
    return ", ".join(map(str, names)) or "none"
