"""A store in this process's memory, for what is told it by URL; and how it goes away for a while."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

URL = "memory://sweeps"
_CALLS = ("pipe_file", "cat_file", "put_file", "get_file", "find", "isfile", "rm", "rm_file", "mv")


class AwayError(Exception):
    """As a client's own errors are: no OSError."""


class MemoryStore:
    """What is at URL.

    Attributes:
        is_away: whether whatever is asked of it fails.
        num_left: so many more calls are answered; None for any number.
        calls: the names of those that were answered, each with its first argument.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.is_away = False
        self.num_left: int | None = None
        self.calls: list[tuple[str, Any]] = []
        MemoryFileSystem.store.clear()
        MemoryFileSystem.pseudo_dirs[:] = [""]
        for name in _CALLS:
            patch.setattr(MemoryFileSystem, name, self._answering(name, getattr(MemoryFileSystem, name)))

    def _answering(self, name: str, method: Any) -> Any:
        def call(filesystem: MemoryFileSystem, *args: Any, **kwargs: Any) -> Any:
            if self.is_away or self.num_left == 0:
                raise AwayError("no answer")
            if self.num_left is not None:
                self.num_left -= 1
            self.calls.append((name, args[0]))
            return method(filesystem, *args, **kwargs)

        return call

    @property
    def names(self) -> set[str]:
        """Of all objects, below URL."""
        return {name.removeprefix("/sweeps/") for name in MemoryFileSystem.store}


def memory_store() -> Iterator[MemoryStore]:
    """For a fixture."""
    with pytest.MonkeyPatch.context() as patch:
        yield MemoryStore(patch)
    MemoryFileSystem.store.clear()
