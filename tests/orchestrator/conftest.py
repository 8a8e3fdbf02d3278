from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def write_space(tmp_path: Path) -> Callable[[str | bytes], Path]:
    """Writes the text of a sweep file and returns its path."""

    def write(text: str | bytes) -> Path:
        path = tmp_path / "space.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write
