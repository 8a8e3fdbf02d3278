"""Fixtures for the tests of `trainables`."""

from collections.abc import Iterator

import pytest
import torch
from short_trials import noisy_tiles

from trainables import images
from trainables.config import DataConfig
from trainables.images import Dataset, load_images


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load_images("digits", DataConfig(), torch.device("cpu"))


@pytest.fixture
def tiles(monkeypatch: pytest.MonkeyPatch) -> Iterator[Dataset]:
    """Stands in for CIFAR-10 and is learned in a few steps."""
    dataset = Dataset(noisy_tiles(200, 1), noisy_tiles(60, 2), noisy_tiles(60, 3))
    images._load.cache_clear()
    monkeypatch.setitem(images.DATASETS, "cifar10", lambda source: dataset)
    yield dataset
    images._load.cache_clear()
