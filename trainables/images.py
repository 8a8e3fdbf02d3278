"""Image datasets as tensors that live on the device for as long as a process trains on them."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from sklearn.datasets import load_digits
from torch import Tensor

from trainables.config import NUM_TRAINING_ITEMS, DatasetName

SPLIT_SEED = 42
DIGITS_NUM_VALIDATION = 300


@dataclass(frozen=True)
class Subset:
    """Items with their labels, row by row."""

    items: Float[Tensor, "item channel h w"]
    labels: Int[Tensor, " item"]

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Subset:
        return Subset(self.items.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Dataset:
    """The three parts of a dataset; `training` is also the gallery of the validation queries."""

    training: Subset
    validation: Subset
    test: Subset


@functools.lru_cache(maxsize=2)
def load_dataset(name: DatasetName, device: torch.device) -> Dataset:
    """Loads a dataset once a process and keeps it on `device`."""
    dataset = DATASETS[name]()
    return Dataset(*(part.to(device) for part in (dataset.training, dataset.validation, dataset.test)))


def _digits() -> Dataset:
    """scikit-learn's bundled 8x8 digits: 1,197 training, 300 validation, 300 test images in [0, 1]."""
    pixels, targets = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32).div(16).reshape(-1, 1, 8, 8)
    labels = torch.tensor(targets, dtype=torch.long)
    order = list(range(len(labels)))
    random.Random(SPLIT_SEED).shuffle(order)
    rows = torch.tensor(order)
    start = NUM_TRAINING_ITEMS["digits"]
    stop = start + DIGITS_NUM_VALIDATION
    parts = rows[:start], rows[start:stop], rows[stop:]
    return Dataset(*(Subset(images[part], labels[part]) for part in parts))


DATASETS: dict[DatasetName, Callable[[], Dataset]] = {"digits": _digits}
