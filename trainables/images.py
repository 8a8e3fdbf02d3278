"""Image datasets as tensors that live on the device for as long as a process trains on them."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Int, Num
from sklearn.datasets import load_digits
from torch import Tensor

from trainables.config import DATASET_FACTS, DataConfig, DatasetName
from trainables.image_cache import SPLIT_SEED, open_images
from trainables.image_tables import DataError

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
    """The three parts of a dataset; `training` is also the gallery of the validation queries."""

    training: Subset
    validation: Subset
    test: Subset

    def test_gallery(self) -> Subset:
        """All training images, validation included: the gallery of the test queries."""
        parts = self.training, self.validation
        return Subset(torch.cat([p.items for p in parts]), torch.cat([p.labels for p in parts]))


def load_dataset(name: DatasetName, data: DataConfig, device: torch.device) -> Dataset:
    """Loads a dataset once a process and keeps it on `device`.

    Raises:
        trainables.image_sources.DataError: it cannot be had.
    """
    return _load(name, data.source, data.num_classes, data.num_training_items, device)


def require_items(name: DatasetName, data: DataConfig) -> None:
    """Sees that a dataset has what `data` asks for, without bringing it to a device.

    Raises:
        trainables.image_sources.DataError: it cannot be had, or has fewer items.
    """
    below = data.num_classes or DATASET_FACTS[name].num_classes
    labels = DATASETS[name](data.source).training.labels
    _require(data.num_training_items, int((labels < below).sum()), below)


def _require(num_wanted: int | None, num_items: int, num_classes: int) -> None:
    if num_wanted and num_wanted > num_items:
        raise DataError(
            f"data.num_training_items is {num_wanted}, and there are {num_items} images of "
            f"{num_classes} classes to train on; name at most as many"
        )


@functools.lru_cache(maxsize=2)
def _load(
    name: DatasetName,
    source: str | None,
    num_classes: int | None,
    num_training_items: int | None,
    device: torch.device,
) -> Dataset:
    dataset = DATASETS[name](source)
    below = num_classes or DATASET_FACTS[name].num_classes
    parts = dataset.training, dataset.validation, dataset.test
    training, validation, test = (part.below(below).to(device) for part in parts)
    _require(num_training_items, len(training), below)
    return Dataset(training.rows(0, num_training_items), validation, test)


def _cifar(name: Literal["cifar10", "cifar100"], source: str | None) -> Dataset:
    """CIFAR at 32x32, uint8: 45,000 training, 5,000 validation and 10,000 test images."""
    images = open_images(name, source)
    num_training = DATASET_FACTS[name].num_training_items
    all_training = Subset(images.train_images, images.train_labels)
    return Dataset(
        training=all_training.rows(0, num_training),
        validation=all_training.rows(num_training),
        test=Subset(images.test_images, images.test_labels),
    )


def _digits(source: str | None) -> Dataset:
    """scikit-learn's bundled 8x8 digits: 1,197 training, 300 validation, 300 test images in [0, 1]."""
    assert source is None
    pixels, targets = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32).div(16).reshape(-1, 1, 8, 8)
    labels = torch.tensor(targets, dtype=torch.long)
    order = list(range(len(labels)))
    random.Random(SPLIT_SEED).shuffle(order)
    shuffled = Subset(images[order], labels[order])
    start = DATASET_FACTS["digits"].num_training_items
    stop = start + DIGITS_NUM_VALIDATION
    return Dataset(shuffled.rows(0, start), shuffled.rows(start, stop), shuffled.rows(stop))


DATASETS: dict[DatasetName, Callable[[str | None], Dataset]] = {
    "cifar100": functools.partial(_cifar, "cifar100"),
    "cifar10": functools.partial(_cifar, "cifar10"),
    "digits": _digits,
}
