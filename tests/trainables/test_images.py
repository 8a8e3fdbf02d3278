import random
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import torch
from image_folders import write_images
from sklearn.datasets import load_digits

from trainables.config import DataConfig
from trainables.errors import DataError
from trainables.facts import DATASET_FACTS, DatasetName
from trainables.images import DATASETS, Dataset, Subset, load_images, require_items

CPU = torch.device("cpu")
CIFAR100 = Path(__file__).parents[3] / "shared/data/cifar100"


OWN = {"train/ant": 60, "train/bee": 60, "train/cat": 60, "test/ant": 5, "test/bee": 5, "test/cat": 3}


@pytest.fixture(scope="module", params=["digits", "cifar100", "image_folder"])
def dataset(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[DatasetName, Dataset]]:
    if request.param == "digits":
        yield "digits", load_images("digits", DataConfig(), CPU)
        return
    if request.param == "cifar100" and not CIFAR100.exists():
        pytest.skip("the CIFAR-100 files are not here")
    source = CIFAR100
    if request.param == "image_folder":
        source = write_images(tmp_path_factory.mktemp("own"), OWN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MONOCON_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield request.param, load_images(request.param, DataConfig(source=str(source)), CPU)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder of images."""
    monkeypatch.setenv("MONOCON_CACHE", str(tmp_path / "cache"))
    return str(write_images(tmp_path / "own", OWN))


def test_every_dataset_is_registered_and_counted() -> None:
    assert set(get_args(DatasetName)) == set(DATASET_FACTS)
    assert set(DATASETS) == {n for n, f in DATASET_FACTS.items() if f.task == "classification"}


def test_dataset_has_as_many_items_as_announced(dataset: tuple[DatasetName, Dataset]) -> None:
    name, loaded = dataset
    announced = DATASET_FACTS[name].num_training_items
    assert announced is None or len(loaded.training) == announced
    assert loaded.training.items.shape[1:] == DATASET_FACTS[name].item_shape


def test_parts_of_a_dataset_are_alike(dataset: tuple[DatasetName, Dataset]) -> None:
    name, loaded = dataset
    for part in (loaded.training, loaded.validation, loaded.test):
        assert len(part) == len(part.items) == len(part.labels) > 0
        assert part.items.shape[1:] == loaded.training.items.shape[1:]
        assert part.items.dtype in (torch.uint8, torch.float32)
        assert part.labels.dtype == torch.long
        assert set(part.labels.tolist()) == set(range(DATASET_FACTS[name].num_classes or len(OWN) // 2))


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


@pytest.mark.parametrize("size", [8, 33])
def test_own_images_have_the_size_that_is_asked_for(own: str, size: int) -> None:
    loaded = load_images("image_folder", DataConfig(source=own, image_size=size), CPU)
    assert loaded.training.items.shape == (162, 3, size, size)
    assert loaded.validation.items.shape == (18, 3, size, size)
    assert loaded.test.items.shape == (13, 3, size, size)


def test_first_classes_of_own_images_are_those_of_the_first_names(own: str) -> None:
    few = load_images("image_folder", DataConfig(source=own, num_classes=2, num_training_items=9), CPU)
    whole = load_images("image_folder", DataConfig(source=own), CPU)
    wanted = whole.training.labels < 2
    assert torch.equal(few.training.items, whole.training.items[wanted][:9])
    assert few.test.labels.sort().values.tolist() == [0] * 5 + [1] * 5


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"num_classes": 4}, r"^data\.num_classes is 4, and there are 3; name at most as many"),
        ({"num_training_items": 163}, "there are 162 images of 3 classes to train on; name at most"),
    ],
)
def test_more_than_there_is_of_own_images_is_refused(
    own: str, data: dict[str, int], message: str
) -> None:
    config = DataConfig.model_validate({"source": own} | data)
    with pytest.raises(DataError, match=message):
        require_items("image_folder", config)
    with pytest.raises(DataError, match=message):
        load_images("image_folder", config, CPU)


def test_classes_that_nothing_tests_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONOCON_CACHE", str(tmp_path / "cache"))
    counts = {"train/a": 40, "train/b": 40, "train/c": 40, "test/a": 1, "test/c": 9}
    data = DataConfig(source=str(write_images(tmp_path / "own", counts)), num_classes=2)
    with pytest.raises(DataError, match=r"^data\.num_classes is 2, .* there are 1 images to test on"):
        require_items("image_folder", data)
