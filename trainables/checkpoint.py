"""The checkpoint of a training: all that it needs to go on as if it had never been killed.

Written and read by `trainables.training`. One file, which is whole or absent whenever its writer is
killed, with tensors and plain data only: nothing is ever unpickled.
"""

from __future__ import annotations

import io
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
from trainables.distributed import WorkerGroup
from trainables.reports import EpochReport

PhaseName = Literal["warm-up", "main"]
_CONTENT = {"config", "progress", "states"}
"""The keys of what is in a file."""


class CheckpointError(ValueError):
    """The file is damaged, or not of this training."""


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
        path: the file; all workers of a group see the same.
        every_s: seconds from the start, and then from one writing, to the next; 0 writes after each
            epoch.
        resend: given each report that is in the file, in order, before a training goes on: who
            listened to the killed one may not have taken in the last of them. Called by all workers.
        clock: seconds, for `every_s`.
    """

    path: Path
    every_s: float
    resend: Callable[[EpochReport], None] = _tell_nobody
    clock: Callable[[], float] = time.monotonic

    def write(self, content: dict[str, Any]) -> None:
        """Writes the file, whole or not at all.

        Raises:
            OSError: it cannot be written; what was there stays.
        """
        # Through memory: torch's own writer makes a RuntimeError of a full disk.
        buffer = io.BytesIO()
        torch.save(content, buffer)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}")
        try:
            with partial.open("wb") as file:
                file.write(buffer.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path)
        finally:
            partial.unlink(missing_ok=True)

    def read(self) -> dict[str, Any]:
        """What was written, on the CPU.

        Raises:
            CheckpointError: the file is not what was written.
            OSError: it cannot be read.
        """
        try:
            with self.path.open("rb") as file:
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
        except (OSError, MemoryError):  # says nothing about what is in it
            raise
        except Exception as error:  # zipfile and torch raise nearly every kind
            raise CheckpointError(
                f"{self.path} is not a whole checkpoint ({error}); remove it, and the training starts "
                "from its beginning"
            ) from error

    def remove_leftovers(self) -> None:
        """Removes what writers that were killed left half-written."""
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
        CheckpointError: there is a file, but not a whole one of this training.
    """

    def __init__(self, config: TrialConfig, file: CheckpointFile | None, group: WorkerGroup) -> None:
        self.progress = Progress()
        self._config = config.model_dump()
        self._file = file
        self._is_writer = file is not None and group.rank == 0
        self._states: dict[str, dict[str, Any]] | None = None
        if file is None:
            return
        if self._is_writer:
            file.remove_leftovers()
        # The first worker's answer for all: a file may show later on another node.
        if group.broadcast(file.path.is_file()):
            self._take_up(file)
        self._written_at = file.clock()

    def _take_up(self, file: CheckpointFile) -> None:
        content = file.read()
        found = content["config"]
        if found != self._config:
            names = [
                name for name in {**found, **self._config} if found.get(name) != self._config.get(name)
            ]
            raise CheckpointError(
                f"{file.path} is of another training, whose {', '.join(names)} differ; remove it, or "
                "train with the settings that it was written with"
            )
        self.progress = Progress.from_dict(content["progress"])
        self._states = content["states"]
        for report in self.progress.reports:
            file.resend(report)

    def epochs(self, phase: PhaseName, num_epochs: int, parts: Mapping[str, HasState]) -> Iterator[int]:
        """The epochs of a phase that are left.

        Restores `parts`, in place, if the checkpoint is of this phase. Asking for the next epoch says
        that the last one is over, whereupon the checkpoint is written if it is due.

        Raises:
            CheckpointError: the checkpoint holds other parts than these.
            OSError: it cannot be written.
        """
        if self.progress.phase != phase:
            self.progress.phase, self.progress.epoch = phase, 0
        elif self._states is not None:
            self._restore(parts, self._states)
            self._states = None
        for epoch in range(self.progress.epoch + 1, num_epochs + 1):
            yield epoch
            self.progress.epoch = epoch
            self._write_if_due(parts)

    def _restore(self, parts: Mapping[str, HasState], states: Mapping[str, dict[str, Any]]) -> None:
        assert self._file is not None
        try:
            for name, part in parts.items():
                part.load_state_dict(states[name])
        except (RuntimeError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"{self._file.path} does not fit its own settings ({error}), as one of another version "
                "may not; remove it, and the training starts from its beginning"
            ) from error

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
