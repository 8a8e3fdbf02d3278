import random
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import torch
from sklearn.datasets import load_digits

from trainables.config import DATASET_FACTS, DataConfig, DatasetName
from trainables.errors import DataError
from trainables.images import DATASETS, Dataset, Subset, load_images

CPU = torch.device("cpu")
CIFAR100 = Path(__file__).parents[3] / "shared/data/cifar100"


@pytest.fixture(scope="module", params=["digits", "cifar100"])
def dataset(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[DatasetName, Dataset]]:
    if request.param == "digits":
        yield "digits", load_images("digits", DataConfig(), CPU)
        return
    if not CIFAR100.exists():
        pytest.skip("the CIFAR-100 files are not here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MONOCON_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield "cifar100", load_images("cifar100", DataConfig(source=str(CIFAR100)), CPU)


def test_every_dataset_is_registered_and_counted() -> None:
    assert set(get_args(DatasetName)) == set(DATASET_FACTS)
    assert set(DATASETS) == {n for n, f in DATASET_FACTS.items() if f.task == "classification"}


def test_dataset_has_as_many_items_as_announced(dataset: tuple[DatasetName, Dataset]) -> None:
    name, loaded = dataset
    assert len(loaded.training) == DATASET_FACTS[name].num_training_items
    assert loaded.training.items.shape[1:] == DATASET_FACTS[name].item_shape


def test_parts_of_a_dataset_are_alike(dataset: tuple[DatasetName, Dataset]) -> None:
    name, loaded = dataset
    for part in (loaded.training, loaded.validation, loaded.test):
        assert len(part) == len(part.items) == len(part.labels) > 0
        assert part.items.shape[1:] == loaded.training.items.shape[1:]
        assert part.items.dtype in (torch.uint8, torch.float32)
        assert part.labels.dtype == torch.long
        assert set(part.labels.tolist()) == set(range(DATASET_FACTS[name].num_classes or 0))


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
    first = load_images("digits", DataConfig(), CPU)
    assert load_images("digits", DataConfig(), torch.device("cpu")) is first


def test_subset_keeps_its_rows_on_another_device() -> None:
    subset = Subset(torch.randn(3, 1, 8, 8), torch.tensor([2, 0, 1])).to(torch.device("meta"))
    assert subset.items.device.type == subset.labels.device.type == "meta"
    assert subset.items.shape == (3, 1, 8, 8) and len(subset) == 3


def test_first_classes_and_first_items_are_taken_in_their_order(digits: Dataset) -> None:
    data = DataConfig(num_classes=3, num_training_items=50)
    few = load_images("digits", data, CPU)
    wanted = digits.training.labels < 3
    assert torch.equal(few.training.items, digits.training.items[wanted][:50])
    assert torch.equal(few.test.labels, digits.test.labels[digits.test.labels < 3])
    assert set(few.validation.labels.tolist()) == {0, 1, 2}


def test_gallery_of_the_test_is_training_and_validation(digits: Dataset) -> None:
    gallery = digits.test_gallery()
    assert len(gallery) == 1197 + 300
    assert torch.equal(gallery.items[:1197], digits.training.items)
    assert torch.equal(gallery.labels[1197:], digits.validation.labels)


def test_more_items_than_there_are_is_refused_with_their_number() -> None:
    two = load_images("digits", DataConfig(num_classes=2), CPU)
    num_items = len(two.training)
    load_images("digits", DataConfig(num_classes=2, num_training_items=num_items), CPU)
    with pytest.raises(DataError, match=f"there are {num_items} images of 2 classes to train on"):
        load_images("digits", DataConfig(num_classes=2, num_training_items=num_items + 1), CPU)
