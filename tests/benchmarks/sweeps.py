"""Whole sweeps: what a trial costs beyond its training, and where a sweep's time goes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from orchestrator.events import TrialEnded
from orchestrator.ledger import read_ledger
from orchestrator.record import SweepRecord
from orchestrator.settings import load_settings
from tests.benchmarks.table import Row

REPOSITORY = Path(__file__).parents[2]
DIGITS = REPOSITORY / "search_spaces" / "digits.yaml"
_TRIVIAL = [
    "trial.epochs=1",
    "trial.warmup.epochs=0",
    "trial.batch_size=1197",
    "resources.max_concurrent=1",
]


class SweepRun:
    """A sweep run as a command in a folder of its own, with its wall time and peak memory."""

    def __init__(self, folder: Path, name: str, overrides: list[str]) -> None:
        places = [f"storage={folder}/runs", f"tracking.uri=sqlite:///{folder}/mlflow.db"]
        arguments = [part for override in places + overrides for part in ("--set", override)]
        self.peak_mib = 0.0
        started = time.time()
        with subprocess.Popen(
            [sys.executable, "-m", "orchestrator.sweep", str(DIGITS), "--name", name, *arguments],
            cwd=REPOSITORY, stdout=subprocess.DEVNULL,
        ) as process:  # fmt: skip
            watcher = threading.Thread(target=self._watch, args=(psutil.Process(process.pid),))
            watcher.start()
            if process.wait():
                raise RuntimeError(f"the sweep {name} ended with {process.returncode}")
            self.wall_s = time.time() - started
            watcher.join()
        self.started = started
        paths = folder / "runs" / name
        self.events = list(read_ledger(paths / "ledger.jsonl"))
        self.record = SweepRecord.of(load_settings(paths / "sweep.yaml"), self.events)

    def _watch(self, driver: psutil.Process) -> None:
        """Adds up what the driver and all of Ray hold; memory they share is counted once (PSS)."""
        while driver.is_running() and driver.status() != psutil.STATUS_ZOMBIE:
            total = 0
            for process in [driver, *driver.children(recursive=True)]:
                try:
                    total += process.memory_full_info().pss
                except psutil.Error:
                    continue
            self.peak_mib = max(self.peak_mib, total / 2**20)
            time.sleep(1)


def overhead_s(run: SweepRun) -> float:
    """Seconds a trial costs beyond its training and validation, one at a time, without the first."""
    ends = [event.time for event in run.events if isinstance(event, TrialEnded)]
    training = [trial.training_time_s for trial in run.record.trials.values()][1:]
    return (ends[-1] - ends[0]) / (len(ends) - 1) - sum(training) / len(training)


def run_overhead() -> list[Row]:
    """The two lanes with trials that train one step."""
    with tempfile.TemporaryDirectory() as folder:
        warm = overhead_s(SweepRun(Path(folder), "warm", ["search.trials=20", *_TRIVIAL]))
        group = overhead_s(
            SweepRun(Path(folder), "group", ["search.trials=3", "resources.workers=1", *_TRIVIAL])
        )
    return [
        Row(
            "overhead a trial, warm actor",
            f"{warm:.2f} s",
            "goal: at most 0.3 s; mean of 19 after the first",
        ),
        Row(
            "overhead a trial, worker group",
            f"{group:.1f} s",
            "TorchTrainer in Tune, mean of 2 after the first",
        ),
        Row("ratio", f"{group / warm:.0f}x", "goal: at least 20x"),
    ]


def run_digits() -> list[Row]:
    """`search_spaces/digits.yaml` as `make sweep` runs it."""
    with tempfile.TemporaryDirectory() as folder:
        run = SweepRun(Path(folder), "digits", [])
    trials = run.record.trials.values()
    settings = load_settings(DIGITS)
    slots = settings.resources.max_concurrent or 1
    training = sum(trial.training_time_s for trial in trials)
    first = min(trial.started for trial in trials if trial.started)
    searching = (run.record.ended or 0) - first
    return [
        Row(
            "digits sweep, wall time",
            f"{run.wall_s:.0f} s",
            f"goal: at most 300 s; {len(trials)} trials",
        ),
        Row("start-up", f"{first - run.started:.1f} s", "from the command to the first trial's process"),
        Row(
            "training share",
            f"{training / (slots * searching):.0%}",
            f"of {slots} slots while searching",
        ),
        Row(
            "training share of all",
            f"{training / (slots * run.wall_s):.0%}",
            "of the slots from start to exit",
        ),
        Row("peak memory", f"{run.peak_mib:,.0f} MiB", "driver and Ray, shared pages once"),
    ]
