"""Where a trial's files are: a path, or the URL of a place in a store that fsspec reaches, such as
`s3://bucket/prefix`.

A store has no rename. A folder there is whole once it holds the file of COMPLETING that it ends with:
that one is uploaded last and removed first. A single object is whole or absent by itself.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from trainables.reports import MANIFEST, SUMMARY
from trainables.temporary_folder import temporary_folder

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

Place = Path | str
"""A path, or a URL as text."""
COMPLETING = (MANIFEST, SUMMARY)
"""The file without which a folder in a store is none: a snapshot's, an evaluation's."""
_PATIENT_ATTEMPTS = 10  # of botocore's standard mode: about a minute
_HASTY_ATTEMPTS = 2


class StoreError(OSError):
    """A store does not do what it should; the message is a whole sentence."""


def is_url(place: Place) -> TypeGuard[str]:
    """Whether a place is the URL of a store, not a path of this machine."""
    return isinstance(place, str) and "://" in place


def filesystem_of(url: str, is_patient: bool = True) -> tuple[AbstractFileSystem, str]:
    """The store's client and the name that a place has there; credentials are the environment's.

    Args:
        url: of the place.
        is_patient: whether the client tries on for about a minute where the store does not answer.
    """
    from fsspec.core import url_to_fs

    options = {}
    if url.startswith(("s3:", "s3a:")):
        attempts = os.environ.get("AWS_MAX_ATTEMPTS", _PATIENT_ATTEMPTS)
        retries = {"total_max_attempts": int(attempts) if is_patient else _HASTY_ATTEMPTS}
        options["config_kwargs"] = {"retries": {"mode": "standard", **retries}}
    return url_to_fs(url, use_listings_cache=False, **options)


@contextlib.contextmanager
def naming(url: str, verb: str = "used") -> Iterator[None]:
    """Makes one sentence with the place of whatever a store's client raises.

    Args:
        url: what is used in the block.
        verb: what is done with it: read, written, removed.

    Raises:
        FileNotFoundError: as it is, where the place holds nothing.
        FileExistsError: as it is, where the place holds something.
        PermissionError: it is forbidden.
        StoreError: anything else, such as a store that does not answer.
    """
    try:
        yield
    except (FileNotFoundError, FileExistsError, StoreError):
        raise
    except PermissionError as error:
        raise PermissionError(f"{url} cannot be {verb}: {_one_line(error)}") from error
    except Exception as error:  # clients raise errors of their own
        raise StoreError(f"{url} cannot be {verb}: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def list_files(url: str, is_patient: bool = True) -> list[str]:
    """The names below a place of all that is there, relative to it and in order.

    Raises:
        OSError: the store does not tell; a FileNotFoundError where it has no such bucket.
    """
    with naming(url, "read"):
        filesystem, root = filesystem_of(url, is_patient)
        found = filesystem.find(root)
    names = (name.removeprefix(root).strip("/") for name in found)
    return sorted(name for name in names if name)  # a file is not below itself


def read_object(url: str, is_patient: bool = True) -> bytes:
    """What one object holds.

    Raises:
        FileNotFoundError: there is none.
        OSError: the store does not give it.
    """
    with naming(url, "read"):
        filesystem, name = filesystem_of(url, is_patient)
        content = filesystem.cat_file(name)
    assert isinstance(content, bytes)
    return content


def write_object(url: str, data: bytes, is_patient: bool = True) -> None:
    """Puts one object, in place of the one that is there.

    Raises:
        OSError: the store does not take it.
    """
    with naming(url, "written"):
        filesystem, name = filesystem_of(url, is_patient)
        filesystem.pipe_file(name, data)


def create_object(url: str, data: bytes) -> None:
    """Puts one object where there is none; a store without conditions may let two do it at once.

    Raises:
        FileExistsError: there is one.
        OSError: the store does not take it.
    """
    with naming(url, "written"):
        filesystem, name = filesystem_of(url, is_patient=False)
        try:
            filesystem.pipe_file(name, data, mode="create")
        except (NotImplementedError, TypeError):
            if filesystem.exists(name):
                raise FileExistsError(url) from None
            filesystem.pipe_file(name, data)


def remove_object(url: str) -> None:
    """Removes one object.

    Raises:
        OSError: the store does not do it.
    """
    with naming(url, "removed"):
        filesystem, name = filesystem_of(url, is_patient=False)
        filesystem.rm_file(name)


def require_shared(witness: Path) -> None:
    """Checks that this machine has a sweep's folder, and not another one of the same name.

    Args:
        witness: a file that is there as long as the sweep.

    Raises:
        StoreError: it has not; what a training wrote here nobody would find.
    """
    if not witness.exists():
        raise StoreError(
            f"storage: {witness.parent} on {socket.gethostname()} is not the sweep's folder; every node "
            "must have the same disk there, or the storage be a URL"
        )


def exists(place: Place) -> bool:
    """Whether a file is there.

    Raises:
        OSError: the store does not tell.
    """
    if not is_url(place):
        return Path(place).is_file()
    with naming(place, "read"):
        filesystem, name = filesystem_of(place)
        return filesystem.isfile(name)


def rename(place: Place, name: str) -> None:
    """Gives a file another name in its folder, in place of the one that has it.

    Raises:
        FileNotFoundError: it is not there.
        OSError: it cannot be renamed.
    """
    if not is_url(place):
        Path(place).replace(Path(place).with_name(name))
        return
    with naming(place, "renamed"):
        filesystem, old = filesystem_of(place)
        filesystem.mv(old, f"{old.rpartition('/')[0]}/{name}")


def remove(place: Place) -> None:
    """Removes a folder with all that is below it, where it is there.

    Raises:
        OSError: the store does not do it; from a disk what can be removed is.
    """
    if not is_url(place):
        shutil.rmtree(place, ignore_errors=True)
        return
    names = sorted(list_files(place), key=lambda name: name not in COMPLETING)
    with naming(place, "removed"):
        filesystem, root = filesystem_of(place)
        for some in (names[:1], names[1:]):
            if some:
                filesystem.rm([f"{root}/{name}" for name in some])


def upload_folder(folder: Path, url: str) -> None:
    """Puts the files of a folder in place of those that are there, the completing one last.

    Raises:
        OSError: the store does not take it; what is there then is not whole.
    """
    remove(url)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    with naming(url, "written"):
        filesystem, root = filesystem_of(url)
        for path in sorted(files, key=lambda path: path.name in COMPLETING):
            filesystem.put_file(str(path), f"{root}/{path.relative_to(folder).as_posix()}")


@contextlib.contextmanager
def local_copy(place: Place, must_be_whole: bool = False) -> Iterator[Path]:
    """A path at which a place's file or folder can be read: a path itself, or a copy for the block.

    Args:
        place: of a file or a folder.
        must_be_whole: whether a store's folder without its completing file is none.

    Raises:
        FileNotFoundError: a store has nothing, or nothing whole, there.
        OSError: the store does not give it.
    """
    if not is_url(place):
        yield Path(place)
        return
    with temporary_folder() as folder:
        copy = folder / place.rpartition("/")[2]
        names = list_files(place)
        with naming(place, "read"):
            filesystem, root = filesystem_of(place)
            if must_be_whole and not set(names) & set(COMPLETING):
                raise FileNotFoundError(f"{place} is not whole")
            if not names:
                filesystem.get_file(root, str(copy))
            for file in names:
                (copy / file).parent.mkdir(parents=True, exist_ok=True)
                filesystem.get_file(f"{root}/{file}", str(copy / file))
        yield copy
