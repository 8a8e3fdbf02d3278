"""Images of one's own: a folder with a folder for each class, checked, split and decoded once a node.

`trainables.images` opens it, `orchestrator.local_files` finds it; `trainables.image_files` decodes.

The folder has `train/CLASS/`, `test/CLASS/` and, if one likes, `validation/CLASS/`, or `CLASS/` alone.
Hidden files and folders are passed over, and so are files whose names do not end as an image's do.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainables.array_cache import CachedArrays, cache_folder, identity_of_files, open_arrays
from trainables.errors import DataError
from trainables.image_files import SUFFIXES, read_image
from trainables.image_tables import SPLIT_SEED

logger = logging.getLogger(__name__)

PARTS = ("train", "validation", "test")
MIN_IMAGES = 2
"""Of a class that is trained on, as contrast needs a positive; of a part that is asked about, too."""
_HELD_OUT = 10
"""One image in so many validates, and without a folder of their own as many test."""
_LAYOUT = "images are in a folder for each class, or in such folders in train and in test"


@dataclass(frozen=True)
class LabelledFiles:
    """The images of the three parts, each in a shuffled order.

    Attributes:
        classes: names, sorted; a label is a place among them.
        parts: of each of PARTS the files and their labels.
    """

    classes: tuple[str, ...]
    parts: tuple[tuple[tuple[Path, int], ...], ...]

    def __iter__(self) -> Iterator[tuple[str, tuple[tuple[Path, int], ...]]]:
        return zip(PARTS, self.parts, strict=True)


def open_image_folder(source: str, image_size: int) -> CachedArrays:
    """Opens the cache of a folder, verified once a process; builds it where it is missing or damaged.

    Args:
        source: as `data.source`.
        image_size: pixels a side.

    Returns:
        Of each of PARTS the arrays `PART_images`, uint8 (item, 3, size, size), and `PART_labels`, int64
        (item,).

    Raises:
        DataError: the folder is not what it should be, or the cache cannot be written.
    """
    folder = find_folder(source)
    with _naming(folder):
        files = find_images(folder)
        identity = identity_of_files(sorted(path for _, part in files for path, _ in part))
    cache = cache_folder("image_folder", [str(folder), identity, image_size])
    return _open(cache, str(folder), files, image_size)


@functools.lru_cache(maxsize=4)
def _open(cache: Path, source: str, files: LabelledFiles, image_size: int) -> CachedArrays:
    names = [f"{part}_{what}" for part in PARTS for what in ("images", "labels")]
    return open_arrays(cache, "image_folder", source, names, lambda: _decode(source, files, image_size))


def _decode(source: str, files: LabelledFiles, image_size: int) -> dict[str, np.ndarray]:
    logger.info("%s: decoding %d images", source, sum(len(part) for part in files.parts))
    arrays: dict[str, np.ndarray] = {}
    for name, part in files:
        images = np.empty((len(part), 3, image_size, image_size), np.uint8)
        for row, (path, _) in enumerate(part):
            images[row] = read_image(path, image_size)
        arrays[f"{name}_images"] = images
        arrays[f"{name}_labels"] = np.array([label for _, label in part], np.int64)
    return arrays


def find_folder(source: str) -> Path:
    """The folder that a source names, absolute.

    Raises:
        DataError: there is none.
    """
    path = Path(source)
    with contextlib.suppress(RuntimeError):  # There is no such user: no such folder either.
        path = path.expanduser()
    if not path.is_dir():
        fault = "is not a folder" if path.exists() else "does not exist"
        raise DataError(
            f"data.source: {path.absolute()} {fault}; name the folder of your images on this node"
        )
    return path.resolve()


def find_images(folder: Path) -> LabelledFiles:
    """The images of a folder with their labels and parts.

    Without `validation/` the last tenth of the shuffled training images validates, as of CIFAR; of a
    folder without parts the last tenth tests and the one before it validates.

    Raises:
        DataError: the folder has another layout, too few classes, or too few images of one.
        OSError: it cannot be read.
    """
    found = {child.name: child for child in _folders(folder)}
    given = [found[name] for name in PARTS if name in found]
    # One alone may be a class: trains among other vehicles.
    if len(given) > 1 or any(_folders(part) for part in given):
        classes, parts = _given_parts(folder, found)
    else:
        classes, parts = _own_split(folder)
    labels = {name: label for label, name in enumerate(classes)}
    labelled = [tuple((path, labels[path.parent.name]) for path in part) for part in parts]
    files = LabelledFiles(classes, tuple(labelled))
    _require_enough(folder, files)
    return files


def _given_parts(folder: Path, found: Mapping[str, Path]) -> tuple[tuple[str, ...], list[list[Path]]]:
    for name in ("train", "test"):
        if name not in found:
            raise DataError(f"data.source: {folder} has {_listed(found)} but no {name}; {_LAYOUT}")
    for name, other in found.items():
        if name not in PARTS and any(_images(path) for path in (other, *_folders(other))):
            raise DataError(
                f"data.source: {folder} has images in {name} beside those in train and test; call it "
                "validation if that is what it is for, or move it elsewhere"
            )
    images = {name: _images_by_class(found[name]) for name in PARTS if name in found}
    classes = images["train"]
    _require_classes(found["train"], classes)
    for name, by_class in images.items():
        for other, files in by_class.items():
            if files and other not in classes:
                raise DataError(
                    f"data.source: {found[name] / other} is a class that {found['train']} does not "
                    "have, so its label is outside the set; add it there, or remove it here"
                )
    training, validation, test = (
        shuffled(path for files in images.get(name, {}).values() for path in files) for name in PARTS
    )
    if "validation" not in found:
        training, validation = hold_out(training)
    return tuple(classes), [training, validation, test]


def _own_split(folder: Path) -> tuple[tuple[str, ...], list[list[Path]]]:
    images = _images_by_class(folder)
    _require_classes(folder, images)
    everything = shuffled(path for files in images.values() for path in files)
    rest, test = hold_out(everything)
    training, validation = hold_out(rest, len(test))
    return tuple(images), [training, validation, test]


def shuffled(paths: Iterable[Path]) -> list[Path]:
    """Files in an order that depends on nothing but their names."""
    order = sorted(paths)
    random.Random(SPLIT_SEED).shuffle(order)
    return order


def hold_out(paths: list[Path], number: int | None = None) -> tuple[list[Path], list[Path]]:
    """All but the last ones, and the last ones: a tenth, or so many, and at least MIN_IMAGES."""
    number = max(MIN_IMAGES, len(paths) // _HELD_OUT) if number is None else number
    start = max(0, len(paths) - number)
    return paths[:start], paths[start:]


def _images_by_class(folder: Path) -> dict[str, list[Path]]:
    by_class = {}
    for child in _folders(folder):
        for inner in _folders(child):
            if _images(inner):
                raise DataError(
                    f"data.source: {inner} has images, and lies in {child}, which should be the folder "
                    f"of one class; move them up into it, or name {child} if its folders are the classes"
                )
        by_class[child.name] = _images(child)
    return by_class


def _require_classes(folder: Path, by_class: Mapping[str, list[Path]]) -> None:
    with_images = [name for name, files in by_class.items() if files]
    if not with_images:
        what = f"no images ({', '.join(SUFFIXES)}) in its folders" if by_class else "no folders in it"
        raise DataError(f"data.source: {folder} has {what}; {_LAYOUT}")
    if len(with_images) < 2:
        raise DataError(
            f"data.source: {folder} has images of one class alone, {_listed(with_images)}; contrast "
            "needs a second one"
        )


def _require_enough(folder: Path, files: LabelledFiles) -> None:
    num_of_class = [0] * len(files.classes)
    num_in_all = [0] * len(files.classes)
    for part, rows in files:
        for _, label in rows:
            num_of_class[label] += part == "train"
            num_in_all[label] += 1
    for name, number, in_all in zip(files.classes, num_of_class, num_in_all, strict=True):
        if number < MIN_IMAGES:
            raise DataError(
                f"data.source: {folder} has {number} image(s) of class {name} to train on, {in_all} "
                f"with those that validate and test; contrast needs {MIN_IMAGES}, add some or remove it"
            )
    for part, rows in files:
        if len(rows) < MIN_IMAGES:
            raise DataError(
                f"data.source: {folder / part} has {len(rows)} image(s); add some, "
                f"{MIN_IMAGES} are the least"
            )


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if _is_shown(path) and path.is_dir())


def _images(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and _is_shown(path) and not path.is_dir()
    )


def _is_shown(path: Path) -> bool:
    """Whether it is neither hidden nor what macOS puts into archives."""
    return not path.name.startswith(".") and path.name != "__MACOSX"


@contextlib.contextmanager
def _naming(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"data.source: {folder} cannot be read: {error}; mend it, or name another folder"
        ) from error


def _listed(names: Any) -> str:
    return ", ".join(names)
