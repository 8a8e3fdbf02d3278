"""python -m tests.benchmarks.submitted: how long a submitted sweep takes to its first trial.

The digits sweep, with one trial, on a real head with its dashboard, in turn as a job and by the sweep's
own command on the same cluster.
"""

from __future__ import annotations

import argparse
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from orchestrator.events import SweepStarted, TrialStarted
from orchestrator.ledger import read_ledger
from tests.benchmarks.sweeps import DIGITS, REPOSITORY
from tests.benchmarks.table import Row, show
from tests.heads import Head, running_dashboard


class Start(NamedTuple):
    """Seconds from the command on.

    Attributes:
        answered: to the end of the command that submits; to the end of the sweep for the sweep's own.
        begun: to the sweep's first event.
        trained: to its first trial's start.
    """

    answered: float
    begun: float
    trained: float


def measure(module: str, address: str, token: str, name: str, folder: Path) -> Start:
    """Starts a sweep and waits for its end.

    Args:
        module: that starts it.
        address: of the cluster, as that takes it.
        name: of the sweep.
        folder: that it writes to.
    """
    overrides = (
        f"storage={folder}/runs", f"tracking.uri=sqlite:///{folder}/mlflow.db", "search.trials=1",
        "first_trials=[{head.kind: none}]", "trial.epochs=1", "evaluation.points=none", "confirm=null",
    )  # fmt: skip
    arguments = [part for override in overrides for part in ("--set", override)]
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    command = [sys.executable, "-m", module, "--address", address]
    begun = time.time()
    _run([*command, str(DIGITS), "--name", name, *arguments], environment)
    answered = time.time()
    if module == "orchestrator.submit":
        _run([*command, "--status", name, "--follow"], environment)
    events = list(read_ledger(folder / "runs" / name / "ledger.jsonl"))
    (first,) = [event.time for event in events if isinstance(event, SweepStarted)]
    trained = min(event.time for event in events if isinstance(event, TrialStarted))
    return Start(answered - begun, first - begun, trained - begun)


def _run(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def run(times: int) -> list[Row]:
    """So many sweeps each way, in turn; the first pair, which finds nothing cached, is not counted."""
    token = secrets.token_hex(32)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with running_dashboard(token, folder / "head.log") as head:
            pairs = [_pair(head, token, number, folder) for number in range(times + 1)][1:]
    submitted, own = zip(*pairs, strict=True)
    ratio = statistics.median(s.trained for s in submitted) / statistics.median(o.trained for o in own)
    return [
        Row("submit: command to its end", _spread(s.answered for s in submitted), ""),
        Row("submit: command to the sweep's first event", _spread(s.begun for s in submitted), ""),
        Row("submit: command to first trial", _spread(s.trained for s in submitted), ""),
        Row("sweep --address: command to its first event", _spread(s.begun for s in own), ""),
        Row("sweep --address: command to first trial", _spread(s.trained for s in own), "baseline"),
        Row("ratio", f"{ratio:.2f}", "of the medians"),
    ]


def _pair(head: Head, token: str, number: int, folder: Path) -> tuple[Start, Start]:
    submitted = measure("orchestrator.submit", head.dashboard, token, f"submitted-{number}", folder)
    return submitted, measure("orchestrator.sweep", head.gcs, token, f"own-{number}", folder)


def _spread(seconds: Iterable[float]) -> str:
    taken = sorted(seconds)
    return f"{statistics.median(taken):.1f} s ({taken[0]:.1f}-{taken[-1]:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.submitted", description=__doc__)
    parser.add_argument("--times", type=int, default=5, help="of each of the two")
    times = parser.parse_args().times
    show(f"From the command to the first trial, median and range of {times}", run(times))


if __name__ == "__main__":
    main()
