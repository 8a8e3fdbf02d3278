"""Makes what lies beside it importable for the tests of every folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from stores import MemoryStore, memory_store


@pytest.fixture
def memory() -> Iterator[MemoryStore]:
    """An empty store, at `stores.URL`, that lives as long as the test."""
    yield from memory_store()
