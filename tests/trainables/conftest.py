"""Fixtures for the tests of `trainables`."""

from collections.abc import Iterator

import pytest
import torch

from trainables.config import DataConfig
from trainables.images import Dataset, load_dataset


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load_dataset("digits", DataConfig(), torch.device("cpu"))
