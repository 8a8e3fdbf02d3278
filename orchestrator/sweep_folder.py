"""The folder of a new sweep: made whole, or refused before anything starts."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from orchestrator.errors import UserError
from orchestrator.paths import SweepPaths
from orchestrator.settings import SweepSettings
from orchestrator.settings_text import to_yaml
from orchestrator.storage_check import look_at
from trainables.places import remove


def require_new(paths: SweepPaths) -> None:
    """Refuses a name that is taken and a storage that cannot be written, before anything starts."""
    if paths.root.exists() and not _is_stillborn(paths):
        raise _taken(paths)
    if paths.url and not set(look_at(paths.url)) <= {paths.settings.name, paths.lease.name}:
        raise _taken(paths)
    parent = paths.root.parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir():
        text = f"storage: {parent} is not a folder; set storage to one"
        raise UserError(text, location=("storage",))


def is_begun(paths: SweepPaths) -> bool:
    """Whether something happened in the sweep, so that a resume has something to go on with."""
    return paths.ledger.is_file() and paths.ledger.stat().st_size > 0


def _is_stillborn(paths: SweepPaths) -> bool:
    """Whether the folder is what a driver left that was killed before its first event."""
    known = {paths.settings, _partial(paths.settings), paths.log, paths.ledger, paths.lease}
    return paths.root.is_dir() and set(paths.root.iterdir()) <= known and not is_begun(paths)


def _taken(paths: SweepPaths) -> UserError:
    return UserError(
        f"--name: {paths.place} already holds a sweep; choose another name, or go on with it by --resume"
    )


def make_folder(settings: SweepSettings, paths: SweepPaths) -> None:
    """Makes the folder with its `sweep.yaml`.

    Raises:
        UserError: the name is taken, or the storage cannot be written.
    """
    try:
        paths.root.mkdir(parents=True, exist_ok=_is_stillborn(paths))
        write_whole(paths.settings, to_yaml(settings))
    except FileExistsError:
        raise _taken(paths) from None
    except OSError as error:
        raise UserError(
            f"storage: cannot write to {paths.root} ({error.strerror}); set storage to another folder",
            location=("storage",),
        ) from None


def write_whole(path: Path, text: str) -> None:
    """Writes a file that is whole or as it was before."""
    partial = _partial(path)
    try:
        partial.write_text(text)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}")


def remove_folder(paths: SweepPaths) -> None:
    """Removes what was made of a sweep that could not begin, and its storage where that is empty."""
    if paths.url:
        with contextlib.suppress(OSError):  # the store is away, which is told by what comes after
            remove(paths.url)
    shutil.rmtree(paths.root, ignore_errors=True)
    with contextlib.suppress(OSError):  # other sweeps are in it
        paths.root.parent.rmdir()
