"""Every file name of a sweep's folder, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SweepPaths:
    """The folder of one sweep: `STORAGE/NAME`.

    Attributes:
        root: the folder, absolute, so that workers with other working directories find it.
    """

    root: Path

    @staticmethod
    def of(storage: str, name: str) -> SweepPaths:
        return SweepPaths(Path(storage).expanduser().absolute() / name)

    @property
    def ledger(self) -> Path:
        return self.root / "ledger.jsonl"

    @property
    def settings(self) -> Path:
        return self.root / "sweep.yaml"

    @property
    def log(self) -> Path:
        return self.root / "sweep.log"

    @property
    def tune(self) -> Path:
        """What Ray Tune writes for itself; nothing is read from it."""
        return self.root / "tune"

    @property
    def study(self) -> Path:
        """What `orchestrator.export` writes where no other file is named."""
        return self.root / "optuna.log"

    def snapshot(self, trial: str, epoch: int) -> Path:
        return self.snapshots(trial) / f"epoch-{epoch:04d}"

    def snapshots(self, trial: str) -> Path:
        return self.root / "snapshots" / trial

    def trace(self, trial: str, epoch: int) -> Path:
        return self.traces(trial) / f"epoch-{epoch:04d}.npz"

    def traces(self, trial: str) -> Path:
        return self.root / "traces" / trial

    def evaluation(self, trial: str, epoch: int) -> Path:
        return self.evaluations(trial) / f"epoch-{epoch:04d}"

    def evaluations(self, trial: str) -> Path:
        return self.root / "evaluations" / trial

    def checkpoint(self, trial: str) -> Path:
        return self.checkpoints(trial) / "state.pt"

    def checkpoints(self, trial: str) -> Path:
        return self.root / "checkpoints" / trial

    def written_for(self, trial: str) -> tuple[Path, ...]:
        """The folders that workers write to for a trial."""
        return (
            self.snapshots(trial),
            self.traces(trial),
            self.evaluations(trial),
            self.checkpoints(trial),
        )

    def stored_traces(self, trial: str) -> list[Path]:
        """The traces of a trial on disk, in order of epoch."""
        return sorted(self.traces(trial).glob("epoch-*.npz"))

    def stored_snapshots(self, trial: str) -> set[tuple[str, int]]:
        """The (trial, epoch) of every snapshot of a trial on disk."""
        folders = self.snapshots(trial).glob("epoch-*")
        return {(trial, int(folder.name.removeprefix("epoch-"))) for folder in folders}
