from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from trainables.temporary_folder import temporary_folder

KILLED = """
import os, signal
from trainables.temporary_folder import temporary_folder
with temporary_folder() as folder:
    (folder / "weights").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def age(folder: Path) -> None:
    os.utime(folder, (0, 0))


def test_a_folder_is_there_for_the_block(home: Path) -> None:
    with temporary_folder() as folder:
        assert folder.is_dir() and folder.parent == home
    assert list(home.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next(home: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", KILLED], env=environment, check=False, timeout=60)
    (left,) = home.iterdir()
    with temporary_folder():
        assert left.exists()  # it is young: its process might be about to lock it
    age(left)
    with temporary_folder():
        assert not left.exists()


def test_a_folder_in_use_stays_however_old(home: Path) -> None:
    with temporary_folder() as used:
        age(used)
        with temporary_folder():
            assert used.is_dir()
