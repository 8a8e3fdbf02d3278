"""python -m tests.benchmarks.scaling: what share of the time that a cluster's slots have is training.

Clusters of several raylets on this machine, each with so many slots that cost nothing, since their
trainings only sleep (`tests.benchmarks.sleeping`).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil

from orchestrator.events import Event, SweepStarted, TrialEnded, TrialReported, TrialStarted
from orchestrator.ledger import read_ledger
from tests.benchmarks.sweeps import DIGITS, REPOSITORY
from tests.benchmarks.table import Row, show
from tests.clusters import NodeCluster


class Scale(NamedTuple):
    """What is run.

    Attributes:
        nodes: raylets with slots, beside the head, which has none.
        slots: of each.
        trials: that each slot gets.
        epochs: of a trial.
        epoch_s: seconds that an epoch sleeps.
    """

    nodes: int
    slots: int
    trials: int
    epochs: int
    epoch_s: float

    @property
    def num_slots(self) -> int:
        return self.nodes * self.slots


class Used(NamedTuple):
    """What a sweep made of it.

    Attributes:
        share: of the slots' time from the first trial's start to the last one's end spent training.
        from_first_event: the same from the sweep's first event on, which has the start of all processes.
        first_trial_s: from the command to the first trial's start.
        all_started_s: to the moment when every slot had had a trial.
        reports_per_s: from the first trial's start to the last one's end.
        driver_cpu: CPUs that the driver's process took meanwhile.
        driver_mib: its memory at its largest.
    """

    share: float
    from_first_event: float
    first_trial_s: float
    all_started_s: float
    reports_per_s: float
    driver_cpu: float
    driver_mib: float


def measure(scale: Scale) -> Used:
    """Runs a sweep on a cluster of that scale."""
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    environment = {**os.environ, **token}
    cluster = NodeCluster(scale.nodes, environment, num_cpus=scale.slots)
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(cluster):
        overrides = [
            f"storage={folder}/runs", f"tracking.uri=sqlite:///{folder}/mlflow.db",
            "search.sampler=random",
            f"search.trials={scale.num_slots * scale.trials}", f"trial.epochs={scale.epochs}",
            "trial.validate_every=1", "evaluation.points=none", "resources.max_concurrent=null",
            "resources.wait_for_nodes=1m", "early_stopping.kind=none",
        ]  # fmt: skip
        arguments = [part for override in overrides for part in ("--set", override)]
        command = [sys.executable, "-m", "tests.benchmarks.sleeping", str(scale.epoch_s), str(DIGITS)]
        command += ["--name", "scaled", "--address", cluster.address, *arguments]
        begun = time.time()
        with subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL
        ) as process:
            looks = _watch(psutil.Process(process.pid))
            if process.wait():
                raise RuntimeError(f"the sweep ended with {process.returncode}")
        events = list(read_ledger(Path(folder) / "runs" / "scaled" / "ledger.jsonl"))
    return _used(scale, events, begun, looks)


class Look(NamedTuple):
    """What a process had taken at a time: CPU seconds, and MiB of memory."""

    time: float
    cpu_s: float
    mib: float


def _watch(process: psutil.Process) -> list[Look]:
    """Looks at a process twice a second, up to its end."""
    looks = []
    with contextlib.suppress(psutil.Error):
        while process.status() != psutil.STATUS_ZOMBIE:
            times = process.cpu_times()
            mib = process.memory_info().rss / 2**20
            looks.append(Look(time.time(), times.user + times.system, mib))
            time.sleep(0.5)
    return looks


def _used(scale: Scale, events: list[Event], begun: float, looks: list[Look]) -> Used:
    starts = [event.time for event in events if isinstance(event, TrialStarted)]
    end = max(event.time for event in events if isinstance(event, TrialEnded))
    (first,) = [event.time for event in events if isinstance(event, SweepStarted)]
    num_reports = sum(isinstance(event, TrialReported) for event in events)
    trained_s = num_reports * scale.epoch_s / scale.num_slots
    took_s = end - starts[0]
    meanwhile = [look for look in looks if starts[0] <= look.time <= end]
    return Used(
        share=trained_s / took_s,
        from_first_event=trained_s / (end - first),
        first_trial_s=starts[0] - begun,
        all_started_s=sorted(starts)[scale.num_slots - 1] - begun,
        reports_per_s=num_reports / took_s,
        driver_cpu=(meanwhile[-1].cpu_s - meanwhile[0].cpu_s) / took_s,
        driver_mib=max(look.mib for look in looks),
    )


def rows(scale: Scale) -> list[Row]:
    used = measure(scale)
    what = f"{scale.nodes} nodes, {scale.num_slots} slots"
    return [
        Row(f"{what}: share of slot time spent training", f"{used.share:.1%}", "at least 95 %"),
        Row(f"{what}: the same from the first event on", f"{used.from_first_event:.1%}", ""),
        Row(f"{what}: command to first trial", f"{used.first_trial_s:.1f} s", ""),
        Row(f"{what}: command to every slot's first trial", f"{used.all_started_s:.1f} s", ""),
        Row(f"{what}: reports a second", f"{used.reports_per_s:.2f}", ""),
        Row(f"{what}: CPUs of the driver", f"{used.driver_cpu:.2f}", ""),
        Row(f"{what}: memory of the driver", f"{used.driver_mib:.0f} MiB", ""),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.scaling", description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--slots", type=int, default=8, help="of each node")
    parser.add_argument("--trials", type=int, default=2, help="of each slot")
    parser.add_argument("--epochs", type=int, default=10, help="of each trial")
    parser.add_argument("--epoch-s", type=float, default=30.0)
    given = parser.parse_args()
    for nodes in given.nodes:
        scale = Scale(nodes, given.slots, given.trials, given.epochs, given.epoch_s)
        show(f"{scale}", rows(scale))


if __name__ == "__main__":
    main()
