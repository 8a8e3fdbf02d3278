"""The working directory that a submitted sweep is sent with: the packages and its resolved settings, and
nothing else that lies around here.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from orchestrator.errors import UserError
from orchestrator.submission import SETTINGS_FILE

PACKAGES = ("orchestrator", "trainables", "dashboards")
_NEEDED = ("*.py", "*.yaml", "assets/*")
_LOCK = "requirements.lock"
_PROJECT = "monocon-sweep (pyproject.toml)"
_NUM_NAMED = 5
_MIB = 2**20


def stage(folder: Path, settings: str | None) -> None:
    """Fills an empty folder with what is sent.

    Args:
        folder: the working directory to be.
        settings: the sweep's, as YAML; None where it goes by its own.
    """
    for package in PACKAGES:
        root = root_of(package)
        for file in needed_files(root):
            target = folder / package / file.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    if settings is not None:
        (folder / SETTINGS_FILE).write_text(settings)


def root_of(package: str) -> Path:
    """The folder of an importable package, in a checkout or as it was installed."""
    spec = find_spec(package)
    assert spec is not None and spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])


def needed_files(root: Path) -> Iterator[Path]:
    """The files of a package that a run needs: no caches, pictures or other things beside the code."""
    for file in sorted(root.rglob("*")):
        if file.is_file() and any(file.match(pattern) for pattern in _NEEDED):
            yield file


def require_size(folder: Path, limit: int) -> None:
    """Checks that what is sent is not larger than Ray takes.

    Args:
        folder: the working directory to be.
        limit: bytes.

    Raises:
        UserError: it is; the message names the largest files.
    """
    sizes = {file: file.stat().st_size for file in folder.rglob("*") if file.is_file()}
    total = sum(sizes.values())
    if total < limit:
        return
    largest = sorted(sizes, key=lambda file: -sizes[file])[:_NUM_NAMED]
    lines = [f"  {file.relative_to(folder)}: {sizes[file] / _MIB:.1f} MiB" for file in largest]
    text = (
        f"what would be sent has {total / _MIB:.1f} MiB, and Ray takes less than "
        f"{limit / _MIB:.1f} MiB; the largest files are:"
    )
    advice = "keep data out of the packages and name it by a path that every node has"
    raise UserError("\n".join([text, *lines, advice]))


def read_lock(root: Path) -> list[str]:
    """The locked requirements of a run.

    Args:
        root: the checkout.

    Raises:
        UserError: this is none.
    """
    file = root / _LOCK
    if not file.is_file():
        raise UserError(
            f"--dependencies: {file} does not exist, since this was not started from a checkout; "
            "start it from one, or leave --dependencies out and install the packages on the cluster"
        )
    return needed_requirements(file.read_text())


def needed_requirements(lock: str) -> list[str]:
    """The lines of a lock that a run needs: without those that only tests and linters ask for.

    Args:
        lock: as `uv pip compile` writes it, each requirement with comments that say who asks for it.
    """
    asked_by: dict[str, set[str]] = {}
    lines: dict[str, str] = {}
    name = ""
    for line in lock.splitlines():
        if line and not line.startswith((" ", "#")):
            name = re.split(r"[=\[ ;<>@]", line, maxsplit=1)[0]
            lines[name], asked_by[name] = line, set()
        elif name and (asker := line.strip().removeprefix("#").strip().removeprefix("via").strip()):
            asked_by[name].add(asker)
    needed = set(_closure(asked_by, [_PROJECT]))
    return [line for name, line in lines.items() if name in needed]


def _closure(asked_by: dict[str, set[str]], roots: Sequence[str]) -> Iterable[str]:
    """Who is asked for by the roots, or by those that are."""
    found: set[str] = set()
    new = set(roots)
    while new:
        new = {name for name, askers in asked_by.items() if askers & new} - found
        found |= new
    return found
