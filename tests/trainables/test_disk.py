from __future__ import annotations

import errno
import pickle
from pathlib import Path
from types import SimpleNamespace

import pytest

from trainables.disk import DiskFullError, cannot_write, says_where_it_is_full


def raise_error(number: int) -> None:
    raise OSError(number, "the system's word")


@pytest.mark.parametrize(
    ("free", "text"),
    [(0, "0 B"), (1023, "1023 B"), (3072, "3 KiB"), (5 * 2**20, "5 MiB"), (3 * 2**29, "1.5 GiB")],
)
def test_full_disk_is_a_sentence_with_the_room_left(
    free: int, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def disk_usage(path: Path) -> SimpleNamespace:
        asked.append(path)
        return SimpleNamespace(free=free)

    monkeypatch.setattr("shutil.disk_usage", disk_usage)
    path = tmp_path / "not" / "yet" / "there"
    with pytest.raises(DiskFullError) as caught, says_where_it_is_full(path):
        raise_error(errno.ENOSPC)
    assert str(caught.value) == (
        f"{path} cannot be written: its disk is full, {text} free; "
        "make room there, or have it written elsewhere"
    )
    assert asked == [tmp_path]


def test_used_up_quota_is_told_from_a_full_disk(tmp_path: Path) -> None:
    with (
        pytest.raises(DiskFullError, match="the quota on its disk is used up"),
        says_where_it_is_full(tmp_path),
    ):
        raise_error(errno.EDQUOT)


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EFBIG])
def test_other_errors_stay_what_they_are(number: int, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="the system's word") as caught, says_where_it_is_full(tmp_path):
        raise_error(number)
    assert not isinstance(caught.value, DiskFullError)
    assert cannot_write(tmp_path, caught.value) == f"{tmp_path} cannot be written: the system's word"


def test_inner_file_is_the_one_that_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(DiskFullError, match="inner cannot be written"),
        says_where_it_is_full(tmp_path / "outer"),
        says_where_it_is_full(tmp_path / "inner"),
    ):
        raise_error(errno.ENOSPC)


def test_error_is_the_same_in_another_process() -> None:
    error = DiskFullError(errno.ENOSPC, "a sentence")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.errno) == (DiskFullError, "a sentence", errno.ENOSPC)
