"""Every file name of a sweep's folder, in one place."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from trainables.array_cache import cache_root
from trainables.places import COMPLETING, Place, is_url, list_files

WRITTEN_BY_WORKERS = ("snapshots", "traces", "evaluations", "checkpoints")
"""The folders with one folder a trial."""


@dataclass(frozen=True)
class SweepPaths:
    """The folder of one sweep: `STORAGE/NAME`.

    Where the storage is a URL there are two: what the driver appends to and locks is in a folder of its
    own machine, what workers write is at the URL, with copies of the driver's files.

    Attributes:
        root: the driver's folder, absolute, so that workers with other working directories find it.
        url: of the place that all nodes share; empty where it is the driver's folder.
    """

    root: Path
    url: str = ""

    @staticmethod
    def of(storage: str, name: str) -> SweepPaths:
        if is_url(storage):
            storage = storage.rstrip("/")
            return SweepPaths(_home(storage) / name, f"{storage}/{name}")
        return SweepPaths(Path(storage).expanduser().absolute() / name)

    @staticmethod
    def at(place: str) -> SweepPaths:
        """Of a sweep whose own folder, or URL, is known."""
        if is_url(place):
            return SweepPaths.of(*place.rstrip("/").rsplit("/", 1))
        return SweepPaths(Path(place).expanduser().absolute())

    @property
    def name(self) -> str:
        return self.root.name

    @property
    def place(self) -> Place:
        """Where people look for the sweep."""
        return self.url or self.root

    @property
    def ledger(self) -> Path:
        return self.root / "ledger.jsonl"

    @property
    def settings(self) -> Path:
        return self.root / "sweep.yaml"

    @property
    def is_away(self) -> bool:
        """Whether the sweep's folder is not to be seen, as while its disk is away."""
        return not self.settings.exists()

    @property
    def log(self) -> Path:
        return self.root / "sweep.log"

    @property
    def lease(self) -> Path:
        """Which driver at the URL was the last one of this machine."""
        return self.root / "driver.json"

    @property
    def tune(self) -> Path:
        """What Ray Tune writes for itself; nothing is read from it."""
        return self.root / "tune"

    @property
    def study(self) -> Path:
        """What `orchestrator.export` writes where no other file is named."""
        return self.root / "optuna.log"

    def at_url(self, file: Path) -> str:
        """Where the copy of one of the driver's files is."""
        return f"{self.url}/{file.name}"

    def snapshot(self, trial: str, epoch: int) -> Place:
        return self._shared("snapshots", trial, f"epoch-{epoch:04d}")

    def snapshots(self, trial: str) -> Place:
        return self._shared("snapshots", trial)

    def trace(self, trial: str, epoch: int) -> Place:
        return self._shared("traces", trial, f"epoch-{epoch:04d}.npz")

    def traces(self, trial: str) -> Place:
        return self._shared("traces", trial)

    def evaluation(self, trial: str, epoch: int) -> Place:
        return self._shared("evaluations", trial, f"epoch-{epoch:04d}")

    def evaluations(self, trial: str) -> Place:
        return self._shared("evaluations", trial)

    def checkpoint(self, trial: str) -> Place:
        return self._shared("checkpoints", trial, "state.pt")

    def checkpoints(self, trial: str) -> Place:
        return self._shared("checkpoints", trial)

    def _shared(self, *parts: str) -> Place:
        return "/".join((self.url, *parts)) if self.url else self.root.joinpath(*parts)

    def written_for(self, trial: str) -> tuple[Place, ...]:
        """The folders that workers write to for a trial."""
        return tuple(self._shared(kind, trial) for kind in WRITTEN_BY_WORKERS)

    def stored(self) -> dict[tuple[str, str], set[str]]:
        """What workers wrote: the names in each folder, by kind, of WRITTEN_BY_WORKERS, and trial."""
        if not self.url:
            folders = (f for kind in WRITTEN_BY_WORKERS for f in (self.root / kind).glob("*"))
            return {
                (f.parent.name, f.name): {e.name for e in f.iterdir()} for f in folders if f.is_dir()
            }
        found: dict[tuple[str, str], set[str]] = {}
        for kind, trial, name, *_ in self._stored_at_url():
            found.setdefault((kind, trial), set()).add(name)
        return found

    def torn(self) -> list[Place]:
        """The folders at the URL that writers which were killed left without their completing file."""
        if not self.url:
            return []
        files = [parts for parts in self._stored_at_url() if parts[0] in ("snapshots", "evaluations")]
        whole = {tuple(parts[:3]) for parts in files if parts[3:] and parts[3] in COMPLETING}
        return [self._shared(*folder) for folder in {tuple(parts[:3]) for parts in files} - whole]

    def _stored_at_url(self) -> list[list[str]]:
        names = (name.split("/") for name in list_files(self.url))
        return [parts for parts in names if parts[0] in WRITTEN_BY_WORKERS and len(parts) > 2]

    def stored_traces(self, trial: str) -> list[Place]:
        """The traces of a trial that are there, in order of epoch."""
        traces = self.traces(trial)
        if is_url(traces):
            return [f"{traces}/{name}" for name in list_files(traces)]
        return sorted(Path(traces).glob("epoch-*.npz"))

    def stored_snapshots(self, trial: str) -> set[tuple[str, int]]:
        """The (trial, epoch) of every snapshot of a trial that is there, whole or not."""
        snapshots = self.snapshots(trial)
        if is_url(snapshots):
            return snapshots_of(trial, {name.partition("/")[0] for name in list_files(snapshots)})
        return snapshots_of(trial, {folder.name for folder in Path(snapshots).glob("epoch-*")})


def snapshots_of(trial: str, names: set[str]) -> set[tuple[str, int]]:
    """The (trial, epoch) of each snapshot among the names in a trial's folder."""
    numbers = (name.removeprefix("epoch-") for name in names if name.startswith("epoch-"))
    return {(trial, int(number)) for number in numbers}


def _home(url: str) -> Path:
    """The folder of this machine that holds what drivers write for the sweeps of a storage."""
    digest = hashlib.sha256(url.encode()).hexdigest()[:8]
    slug = re.sub(r"[^A-Za-z0-9]+", "-", url).strip("-")[:60]
    return cache_root() / "sweeps" / f"{slug}-{digest}"
