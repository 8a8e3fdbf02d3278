"""Runs the product as its user does: as a command, in a folder of its own."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
from mlflow import MlflowClient
from mlflow.entities import Run
from servers import wait_for

from orchestrator.events import Event, SweepEnded
from orchestrator.ledger import read_ledger
from orchestrator.paths import SweepPaths
from orchestrator.record import SweepRecord
from orchestrator.settings import load_settings

REPOSITORY = Path(__file__).parents[2]
TINY = Path(__file__).parent / "tiny.yaml"
EVALUATED = ("--set", "evaluation.points=front")
"""With the final evaluation, which TINY leaves out."""
_STORE = "mlflow.db"
_MARK = "STARTED_BY_THE_TESTS"
"""The environment variable that tells our processes from those of other users of this machine."""
_RAY_PROCESSES = ("raylet", "gcs_server", "ray::")


@dataclass
class SweepRun:
    """A sweep that was run by the command line, and how to look at what it left."""

    folder: Path
    name: str
    returncode: int
    stdout: str
    stderr: str

    @property
    def paths(self) -> SweepPaths:
        return SweepPaths(self.folder / "runs" / self.name)

    @property
    def events(self) -> list[Event]:
        return list(read_ledger(self.paths.ledger))

    @property
    def end(self) -> SweepEnded:
        """How it ended last; when a run was opened may be noted after that."""
        return [event for event in self.events if isinstance(event, SweepEnded)][-1]

    @property
    def record(self) -> SweepRecord:
        return SweepRecord.of(load_settings(self.paths.settings), self.events)

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(f"sqlite:///{self.folder}/{_STORE}")

    def runs(self) -> list[Run]:
        (experiment,) = [e for e in self.client.search_experiments() if e.name != "Default"]
        mine = f"tags.sweep = '{self.name}'"  # others may be in the same store
        return list(self.client.search_runs([experiment.experiment_id], mine))

    @property
    def parent(self) -> Run:
        return next(run for run in self.runs() if run.info.run_name == self.name)

    @property
    def children(self) -> dict[str, Run]:
        return {str(r.info.run_name): r for r in self.runs() if r.info.run_name != self.name}


def command(folder: Path, name: str, file: Path, *arguments: str, resumed: bool = False) -> list[str]:
    """The sweep command with everything that it writes below `folder`."""
    places = [f"storage={folder}/runs", f"tracking.uri=sqlite:///{folder}/{_STORE}"]
    overrides = [part for place in places for part in ("--set", place)]
    python = [sys.executable, "-m", "orchestrator.sweep", str(file)]
    python += ["--resume" if resumed else "--name", name]
    return [*python, *overrides, *arguments]


@functools.cache
def _empty_store() -> bytes:
    """A database of MLflow's with its tables, which take it seconds to make."""
    with tempfile.TemporaryDirectory() as folder:
        MlflowClient(f"sqlite:///{folder}/{_STORE}").search_experiments()
        return (Path(folder) / _STORE).read_bytes()


def run_sweep(
    folder: Path,
    name: str,
    *arguments: str,
    file: Path = TINY,
    while_running: Callable[[psutil.Process], None] | None = None,
    resumed: bool = False,
    has_store: bool = True,
) -> SweepRun:
    """Runs a sweep to its end; `while_running` may do something to it in the meantime.

    Without `has_store` it makes MLflow's database itself.
    """
    if has_store and not (folder / _STORE).exists():
        (folder / _STORE).write_bytes(_empty_store())
    with subprocess.Popen(
        command(folder, name, file, *arguments, resumed=resumed),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, _MARK: str(os.getpid())},
    ) as process:
        try:
            if while_running:
                while_running(psutil.Process(process.pid))
            stdout, stderr = process.communicate(timeout=240)
        except BaseException as fault:
            os.killpg(process.pid, signal.SIGKILL)
            stdout, stderr = process.communicate()
            fault.add_note(f"the sweep had said:\n{stdout}\n{stderr}")
            raise
    return SweepRun(folder, name, process.returncode, stdout, stderr)


def assert_ends_with_its_starter(folder: Path, starts: str, is_killed: bool) -> None:
    """Runs lines that leave a `process` with a `pid` behind, in a Python that is then killed or just
    ends: the process is gone soon after.
    """
    lines = [
        *starts.strip().splitlines(),
        "print(process.pid, flush=True)",
        f"__import__('time').sleep({300 if is_killed else 0})",
    ]
    script = folder / "starts_it.py"
    script.write_text("\n    ".join(["if __name__ == '__main__':", *lines]))
    with subprocess.Popen(
        [sys.executable, str(script)],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    ) as starter:
        assert starter.stdout is not None
        child = psutil.Process(int(starter.stdout.readline()))
        if is_killed:
            starter.kill()
        assert starter.wait(timeout=60) == (-signal.SIGKILL if is_killed else 0)
    wait_for(lambda: not child.is_running(), timeout_s=30)


def ray_processes() -> set[int]:
    """Process ids of everything that the Ray of our sweeps has running."""
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            ours = process.environ().get(_MARK) == str(os.getpid())
            if ours and any(word in " ".join(process.cmdline()) for word in _RAY_PROCESSES):
                found.add(process.pid)
    return found


def training_processes(driver: psutil.Process) -> list[psutil.Process]:
    """The processes that train trials of a sweep."""
    found = []
    for process in driver.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any("ImplicitFunc" in part for part in process.cmdline()):
                found.append(process)
    return found
