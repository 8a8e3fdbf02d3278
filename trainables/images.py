"""Image datasets as tensors that live on the device for as long as a process trains on them."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import distribution
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

from trainables.config import DataConfig
from trainables.errors import DataError
from trainables.facts import DATASET_FACTS, DatasetName
from trainables.image_cache import NUM_VALIDATION_ROWS, open_images
from trainables.image_folder import MIN_IMAGES, PARTS, open_image_folder
from trainables.image_tables import SPLIT_SEED
from trainables.metrics import knn_accuracy, nearest_labels, recalls
from trainables.reports import Task

DIGITS_NUM_TRAINING = 1197
DIGITS_NUM_VALIDATION = 300


@dataclass(frozen=True)
class Subset:
    """Items with their labels, row by row.

    Attributes:
        items: uint8 in [0, 255], or floating point in [0, 1].
        labels: int64, from 0.
    """

    items: Num[Tensor, "item channel h w"]
    labels: Int[Tensor, " item"]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def annotations(self) -> dict[str, Tensor]:
        """What is known of the items, by name."""
        return {"labels": self.labels}

    def num_views(self, num_views: int) -> int:
        """Views of an item in a batch."""
        return num_views

    def views(
        self, rows: Int[Tensor, " row"], num_views: int
    ) -> tuple[Int[Tensor, " view"], Int[Tensor, " view"]]:
        """Items and labels of a batch of rows."""
        items = rows.repeat(num_views)
        return items, self.labels[items]

    def to(self, device: torch.device) -> Subset:
        return Subset(self.items.to(device), self.labels.to(device))

    def rows(self, start: int, stop: int | None = None) -> Subset:
        return Subset(self.items[start:stop], self.labels[start:stop])

    def below(self, num_classes: int) -> Subset:
        """The items of the first classes, in their order."""
        wanted = self.labels < num_classes
        return self if bool(wanted.all()) else Subset(self.items[wanted], self.labels[wanted])


@dataclass(frozen=True)
class Dataset:
    """The three parts of a dataset; `training` is also the gallery of the validation queries.

    Attributes:
        digest: of all that was read, also of what is not used; empty of what comes with the code.
    """

    training: Subset
    validation: Subset
    test: Subset
    digest: str = field(default="", kw_only=True)
    task: ClassVar[Task] = "classification"

    def quality(
        self, gallery: Float[Tensor, "item dim"], queries: Float[Tensor, "query dim"]
    ) -> dict[str, float]:
        """How well embeddings of training and validation images serve the task."""
        neighbours = nearest_labels(queries, gallery, self.training.labels)
        labels = self.validation.labels
        return {"knn_accuracy": knn_accuracy(neighbours, labels), **recalls(neighbours, labels)}

    def test_gallery(self) -> Subset:
        """All training images, validation included: the gallery of the test queries."""
        parts = self.training, self.validation
        return Subset(torch.cat([p.items for p in parts]), torch.cat([p.labels for p in parts]))


def load_images(name: DatasetName, data: DataConfig, device: torch.device) -> Dataset:
    """Loads a dataset once a process and keeps it on `device`.

    Raises:
        trainables.image_sources.DataError: it cannot be had.
    """
    return _load(name, data.model_dump_json(), device)


def require_items(name: DatasetName, data: DataConfig) -> Dataset:
    """A whole dataset, which has what `data` asks for; not brought to a device.

    Raises:
        trainables.errors.DataError: it cannot be had, or has fewer items.
    """
    dataset = DATASETS[name](data)
    _num_classes(dataset, data)
    return dataset


def _num_classes(dataset: Dataset, data: DataConfig) -> int:
    """How many classes are used of a dataset, which has what is asked for.

    Raises:
        DataError: it has less.
    """
    num_classes = int(dataset.training.labels.max()) + 1
    if data.num_classes and data.num_classes > num_classes:
        raise DataError(
            f"data.num_classes is {data.num_classes}, and there are {num_classes}; name at most as many"
        )
    used = data.num_classes or num_classes
    num_items = int((dataset.training.labels < used).sum())
    if data.num_training_items and data.num_training_items > num_items:
        raise DataError(
            f"data.num_training_items is {data.num_training_items}, and there are {num_items} images of "
            f"{used} classes to train on; name at most as many"
        )
    for part, verb in ((dataset.validation, "validate"), (dataset.test, "test")):
        num_items = int((part.labels < used).sum())
        if num_items < MIN_IMAGES:
            raise DataError(
                f"data.num_classes is {used}, and of these there are {num_items} images to {verb} on; "
                f"add some, {MIN_IMAGES} are the least, or name more classes"
            )
    return used


@functools.lru_cache(maxsize=2)
def _load(name: DatasetName, settings: str, device: torch.device) -> Dataset:
    data = DataConfig.model_validate_json(settings)
    dataset = DATASETS[name](data)
    below = _num_classes(dataset, data)
    parts = dataset.training, dataset.validation, dataset.test
    training, validation, test = (part.below(below).to(device) for part in parts)
    return Dataset(training.rows(0, data.num_training_items), validation, test, digest=dataset.digest)


def _cifar(name: Literal["cifar10", "cifar100"], data: DataConfig) -> Dataset:
    """CIFAR at 32x32, uint8: 45,000 training, 5,000 validation and 10,000 test images."""
    images = open_images(name, data.source)
    num_training = len(images.train_labels) - NUM_VALIDATION_ROWS
    all_training = Subset(images.train_images, images.train_labels)
    return Dataset(
        training=all_training.rows(0, num_training),
        validation=all_training.rows(num_training),
        test=Subset(images.test_images, images.test_labels),
        digest=images.digest,
    )


def _digits(data: DataConfig) -> Dataset:
    """scikit-learn's bundled 8x8 digits: 1,197 training, 300 validation, 300 test images in [0, 1]."""
    assert data.source is None
    # The file that sklearn.datasets.load_digits reads: to import that takes seconds, in every process.
    file = distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
    table = torch.from_numpy(np.loadtxt(str(file), delimiter=",", dtype=np.float32))
    images = table[:, :-1].div(16).reshape(-1, 1, 8, 8)
    labels = table[:, -1].long()
    order = list(range(len(labels)))
    random.Random(SPLIT_SEED).shuffle(order)
    shuffled = Subset(images[order], labels[order])
    start = DIGITS_NUM_TRAINING
    stop = start + DIGITS_NUM_VALIDATION
    return Dataset(shuffled.rows(0, start), shuffled.rows(start, stop), shuffled.rows(stop))


def _image_folder(data: DataConfig) -> Dataset:
    """Images of one's own, uint8, each part in a shuffled order."""
    assert data.source is not None
    shape = DATASET_FACTS["image_folder"].item_shape
    assert shape is not None
    cached = open_image_folder(data.source, data.image_size or shape[-1])
    arrays = cached.arrays
    training, validation, test = (
        Subset(torch.from_numpy(arrays[f"{part}_images"]), torch.from_numpy(arrays[f"{part}_labels"]))
        for part in PARTS
    )
    return Dataset(training, validation, test, digest=cached.digest)


DATASETS: dict[DatasetName, Callable[[DataConfig], Dataset]] = {
    "cifar100": functools.partial(_cifar, "cifar100"),
    "cifar10": functools.partial(_cifar, "cifar10"),
    "digits": _digits,
    "image_folder": _image_folder,
}
