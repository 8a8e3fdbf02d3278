"""The checkpoint of a training: all that it needs to go on as if it had never been killed.

Written and read by `trainables.training`. One file, which is whole or absent whenever its writer is
killed, with tensors and plain data only: nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import torch

from trainables.config import TrialConfig
from trainables.disk import AWAY, says_where_it_is_full
from trainables.distributed import WorkerGroup
from trainables.places import (
    Place,
    StoreError,
    exists,
    is_url,
    local_copy,
    rename,
    require_shared,
    write_object,
)
from trainables.reports import EpochReport

logger = logging.getLogger(__name__)

PhaseName = Literal["warm-up", "main"]
_CONTENT = {"config", "progress", "states"}
"""The keys of what is in a file."""


class CheckpointError(ValueError):
    """A training cannot go on from the file: it is damaged, unreadable, or not of this training."""


class HasState(Protocol):
    """A part of a training whose state is in its checkpoint: model, optimizer, schedule, batches."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any: ...


def _tell_nobody(report: EpochReport) -> None:
    pass


@dataclass(frozen=True)
class CheckpointFile:
    """Where a training keeps its checkpoint, and how often it writes it.

    Attributes:
        path: the file, or the URL of an object; all workers of a group see the same.
        every_s: seconds from the start, and then from one writing, to the next; 0 writes after each
            epoch.
        resend: given each report that is in the file, in order, before a training goes on: who
            listened to the killed one may not have taken in the last of them. Called by all workers.
        witness: a file that is there as long as the storage is; None where there is none such.
        warn: told why a training could not go on from the file and starts from its beginning. Called
            by all workers.
        clock: seconds, for `every_s`.
    """

    path: Place
    every_s: float
    resend: Callable[[EpochReport], None] = _tell_nobody
    warn: Callable[[str], None] = logger.warning
    witness: Path | None = None
    clock: Callable[[], float] = time.monotonic

    def write(self, content: dict[str, Any]) -> None:
        """Writes the file, whole or not at all.

        Raises:
            OSError: it cannot be written; what was there stays. A `trainables.disk.DiskFullError` where
                the disk is full.
        """
        # Through memory: torch's own writer makes a RuntimeError of a full disk.
        buffer = io.BytesIO()
        torch.save(content, buffer)
        if is_url(self.path):
            write_object(self.path, buffer.getvalue())
            return
        path = Path(self.path)
        partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            with says_where_it_is_full(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                with partial.open("wb") as file:
                    file.write(buffer.getbuffer())
                    file.flush()
                    os.fsync(file.fileno())
                partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def is_there(self) -> bool:
        """Whether there is one to go on from.

        Raises:
            OSError: the storage is away, or does not tell.
        """
        if exists(self.path):
            return True
        if self.witness is not None:
            require_shared(self.witness)
        return False

    def read(self) -> dict[str, Any]:
        """What was written, on the CPU.

        Raises:
            CheckpointError: the file is not what was written, or cannot be read.
            OSError: the storage is away or does not give it, which says nothing about what is in it.
        """
        try:
            with local_copy(self.path) as path, path.open("rb") as file:
                # torch.load leaves the checksums aside that torch.save made.
                with zipfile.ZipFile(file) as archive:
                    damaged = archive.testzip()
                if damaged:
                    raise ValueError(f"the checksum of {damaged} is wrong")
                file.seek(0)
                content = torch.load(file, map_location="cpu", weights_only=True)
            if not isinstance(content, dict) or content.keys() != _CONTENT:
                raise ValueError("it holds something else")
            return content
        except (MemoryError, StoreError):  # says nothing about what is in it
            raise
        except OSError as error:
            if error.errno in AWAY or isinstance(error, FileNotFoundError):
                raise
            raise CheckpointError(f"{self.path} cannot be read ({error.strerror or error})") from error
        except Exception as error:  # zipfile and torch raise nearly every kind
            raise CheckpointError(f"{self.path} is not a whole checkpoint ({error})") from error

    def set_aside(self, fault: str, group: WorkerGroup) -> None:
        """Renames a file that a training cannot go on from, and warns; one that was set aside before is
        replaced.

        Raises:
            OSError: it cannot be renamed.
        """
        aside = f"{str(self.path).rpartition('/')[2]}.unusable"
        if group.rank == 0:
            with contextlib.suppress(FileNotFoundError):
                rename(self.path, aside)
        self.warn(f"{fault}; it is set aside as {aside}, and the training starts from its beginning")

    def remove_leftovers(self) -> None:
        """Removes what writers that were killed left half-written; a store has no such thing."""
        if isinstance(self.path, Path):
            for partial in self.path.parent.glob(f".{self.path.name}.*"):
                partial.unlink(missing_ok=True)


@dataclass
class Progress:
    """How far a training is, beside the states of its parts.

    Attributes:
        phase: the phase that it is in.
        epoch: epochs of that phase completed.
        reports: all so far.
        unreported: the TRAINING_METRICS of each epoch since the last report, by epoch.
    """

    phase: PhaseName = "warm-up"
    epoch: int = 0
    reports: list[EpochReport] = field(default_factory=list)
    unreported: dict[int, dict[str, float]] = field(default_factory=dict)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Progress:
        """Inverts `asdict`."""
        reports = [EpochReport.from_dict(report) for report in data["reports"]]
        return Progress(data["phase"], data["epoch"], reports, data["unreported"])


class Keeper:
    """Takes a training up where its checkpoint ends, and writes the next one where it is due.

    Args:
        config: the training.
        file: its checkpoint; None keeps nothing.
        group: the workers; the first one writes, all of them read.

    Attributes:
        progress: where the training is; its reports and the unreported are the caller's to add to.

    Raises:
        CheckpointError: there is a file, but not a whole one of this training. By all workers, where it
            is so for one.
    """

    def __init__(self, config: TrialConfig, file: CheckpointFile | None, group: WorkerGroup) -> None:
        self.progress = Progress()
        self._group = group
        self._config = config.model_dump()
        self._file = file
        self._is_writer = file is not None and group.rank == 0
        self._states: dict[str, dict[str, Any]] | None = None
        if file is None:
            return
        if self._is_writer:
            file.remove_leftovers()
        # The first worker's answer for all: a file may show later on another node.
        if group.broadcast(file.is_there()):
            self._take_up(file)
        self._written_at = file.clock()

    def _take_up(self, file: CheckpointFile) -> None:
        with self._raised_by_all():
            content = file.read()
            self._require_same(content["config"], file)
            with _says_it_does_not_fit(file):
                self.progress = Progress.from_dict(content["progress"])
            self._states = content["states"]

    def _require_same(self, found: Any, file: CheckpointFile) -> None:
        if found != self._config:
            now = self._config
            with _says_it_does_not_fit(file):
                names = [name for name in {**found, **now} if found.get(name) != now.get(name)]
            raise CheckpointError(f"{file.path} is of another training, whose {', '.join(names)} differ")

    @contextlib.contextmanager
    def _raised_by_all(self) -> Iterator[None]:
        """Makes all workers raise the first CheckpointError; a file may be damaged for one only."""
        fault = None
        try:
            yield
        except CheckpointError as error:
            fault = str(error)
        fault = next((fault for fault in self._group.collect(fault) if fault), None)
        if fault:
            raise CheckpointError(fault)

    def epochs(self, phase: PhaseName, num_epochs: int, parts: Mapping[str, HasState]) -> Iterator[int]:
        """The epochs of a phase that are left.

        Restores `parts`, in place, if the checkpoint is of this phase, and has its reports sent again.
        Asking for the next epoch says that the last one is over, whereupon the checkpoint is written if
        it is due.

        Raises:
            CheckpointError: the checkpoint holds other parts than these, some of which may be restored.
            OSError: it cannot be written.
        """
        if self.progress.phase != phase:
            self.progress.phase, self.progress.epoch = phase, 0
        elif self._states is not None:
            assert self._file is not None
            with self._raised_by_all(), _says_it_does_not_fit(self._file):
                for name, part in parts.items():
                    part.load_state_dict(self._states[name])
            self._states = None
            for report in self.progress.reports:
                self._file.resend(report)
        for epoch in range(self.progress.epoch + 1, num_epochs + 1):
            yield epoch
            self.progress.epoch = epoch
            self._write_if_due(parts)

    def _write_if_due(self, parts: Mapping[str, HasState]) -> None:
        if not self._is_writer or self._file is None:
            return
        if self._file.clock() - self._written_at < self._file.every_s:
            return
        self._file.write(
            {
                "config": self._config,
                "progress": asdict(self.progress),
                "states": {name: part.state_dict() for name, part in parts.items()},
            }
        )
        self._written_at = self._file.clock()


@contextlib.contextmanager
def _says_it_does_not_fit(file: CheckpointFile) -> Iterator[None]:
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):  # says nothing about what is in it
        raise
    except Exception as error:  # whatever another version's data leads to
        raise CheckpointError(
            f"{file.path} does not fit its own settings ({error!r}), as one of another version may not"
        ) from error
