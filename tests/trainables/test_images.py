import random
from typing import get_args

import pytest
import torch
from sklearn.datasets import load_digits

from trainables.config import NUM_TRAINING_ITEMS, DatasetName
from trainables.images import DATASETS, Dataset, Subset, load_dataset

CPU = torch.device("cpu")


def test_every_dataset_is_registered_and_counted() -> None:
    assert set(DATASETS) == set(get_args(DatasetName)) == set(NUM_TRAINING_ITEMS)


@pytest.mark.parametrize("name", DATASETS)
def test_dataset_has_as_many_training_items_as_announced(name: DatasetName) -> None:
    assert len(load_dataset(name, CPU).training) == NUM_TRAINING_ITEMS[name]


@pytest.mark.parametrize("name", DATASETS)
def test_parts_of_a_dataset_are_alike(name: DatasetName) -> None:
    dataset = load_dataset(name, CPU)
    classes = set(dataset.training.labels.tolist())
    for part in (dataset.training, dataset.validation, dataset.test):
        assert len(part) == len(part.items) == len(part.labels) > 0
        assert part.items.shape[1:] == dataset.training.items.shape[1:]
        assert part.items.is_floating_point() and part.items.isfinite().all()
        assert part.labels.dtype == torch.long
        assert set(part.labels.tolist()) == classes


def test_digits_are_those_of_scikit_learn_in_shuffled_order(digits: Dataset) -> None:
    pixels, targets = load_digits(return_X_y=True)
    order = list(range(1797))
    random.Random(42).shuffle(order)
    parts = [digits.training, digits.validation, digits.test]
    got = torch.cat([part.items for part in parts]).reshape(1797, 64) * 16
    assert [len(part) for part in parts] == [1197, 300, 300]
    assert torch.equal(got.double(), torch.tensor(pixels[order]))
    assert torch.cat([part.labels for part in parts]).tolist() == targets[order].tolist()


def test_digits_lie_between_0_and_1(digits: Dataset) -> None:
    assert digits.training.items.shape == (1197, 1, 8, 8)
    assert float(digits.training.items.min()) == 0.0
    assert float(digits.training.items.max()) == 1.0


def test_no_digit_is_in_two_parts(digits: Dataset) -> None:
    parts = [digits.training, digits.validation, digits.test]
    images = [{tuple(image.flatten().tolist()) for image in part.items} for part in parts]
    assert all(len(found) == len(part) for found, part in zip(images, parts, strict=True))
    assert not images[0] & images[1] and not images[0] & images[2] and not images[1] & images[2]


def test_dataset_is_loaded_once() -> None:
    assert load_dataset("digits", CPU) is load_dataset("digits", torch.device("cpu"))


def test_subset_keeps_its_rows_on_another_device() -> None:
    subset = Subset(torch.randn(3, 1, 8, 8), torch.tensor([2, 0, 1])).to(torch.device("meta"))
    assert subset.items.device.type == subset.labels.device.type == "meta"
    assert subset.items.shape == (3, 1, 8, 8) and len(subset) == 3
