"""Trainings that are killed or run in groups, for the tests of `trainables.checkpoint`.

Imported by processes of their own, hence apart from the tests.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from short_trials import fit_with, short_trial

from trainables.checkpoint import CheckpointFile
from trainables.config import HeadConfig, TrialConfig, WarmupConfig
from trainables.distributed import WorkerGroup
from trainables.reports import EpochReport
from trainables.training import fit
from trainables.validation import Validation

RESUMABLE = short_trial(
    head=HeadConfig(kind="monotonic"), warmup=WarmupConfig(epochs=2), epochs=4, validate_every=2
)
NUM_EPOCHS = 6
"""Of both phases of RESUMABLE."""
LONG = RESUMABLE.model_copy(update={"epochs": 40, "warmup": WarmupConfig(epochs=20)})


class Killed(Exception):  # noqa: N818 - no error
    """Stands in for a signal."""


def deadly_clock(num_readings: int) -> Callable[[], float]:
    """A clock that kills who reads it once more.

    Where every epoch is written it is read once at the start, and before and after each writing: 2 n
    readings kill just after the n-th epoch is written, 2 n - 1 just before.
    """
    readings = iter(range(num_readings))

    def read() -> float:
        for reading in readings:
            return float(reading)
        raise Killed

    return read


def train_on(path: Path, config: TrialConfig) -> None:
    """One life of a training, in a process of its own."""
    torch.set_num_threads(1)
    fit_with(CheckpointFile(path, every_s=0.0), config)


def train_in_group(group: WorkerGroup, folder: Path) -> list[Any]:
    """Reports and last checkpoint of a training; of one whose workers are all killed halfway, with the
    reports before; and of one whose checkpoint is damaged for its second worker only, with the warnings.
    """
    file = CheckpointFile(folder / "killed.pt", every_s=0.0)
    reports: list[EpochReport] = []

    def listener(validation: Validation) -> None:
        if validation.report.epoch > 2:
            raise Killed
        reports.append(validation.report)

    try:
        fit(RESUMABLE, listener, group, file)
    except Killed:
        seen = folder / f"seen_by_{group.rank}.pt"
        halfway = Path(file.path).read_bytes()
        seen.write_bytes(halfway[:-1000] if group.rank else halfway)
        warnings: list[str] = []
        damaged = CheckpointFile(seen, every_s=0.0, warn=warnings.append)
        return [
            fit_with(CheckpointFile(folder / "whole.pt", every_s=0.0), RESUMABLE, group),
            fit_with(file, RESUMABLE, group),
            len(reports),
            fit_with(damaged, RESUMABLE, group),
            warnings,
        ]
    raise AssertionError("it was not killed")


def train_in_group_until_killed_in_warm_up(group: WorkerGroup, folder: Path) -> None:
    """The first worker dies just after the first epoch of the warm-up is written."""
    clock = deadly_clock(2) if group.rank == 0 else float
    fit_with(CheckpointFile(folder / "killed.pt", every_s=0.0, clock=clock), RESUMABLE, group)


def go_on_in_group(group: WorkerGroup, folder: Path) -> list[Any]:
    """Reports and last checkpoint: of the training that was killed, and of one that was not."""
    files = [CheckpointFile(folder / name, every_s=0.0) for name in ("killed.pt", "whole.pt")]
    return [fit_with(file, RESUMABLE, group) for file in files]
