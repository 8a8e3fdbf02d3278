"""Heads of Ray clusters, started as their user would and ended without `ray stop`, which ends all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
from servers import listens, wait_for


@contextmanager
def running_head(
    *options: str, port: int, environment: Mapping[str, str], log: Path | None = None
) -> Iterator[psutil.Process]:
    """A head with two CPUs that listens on `port`."""
    ray = str(Path(sys.executable).with_name("ray"))
    command = [ray, "start", "--head", "--block", "--num-cpus", "2", "--port", str(port)]
    with (log or Path(os.devnull)).open("wb") as output:
        process = subprocess.Popen(
            [*command, "--disable-usage-stats", *options],
            stdout=output, stderr=output, start_new_session=True, env={**os.environ, **environment},
        )  # fmt: skip
    try:
        wait_for(lambda: listens(port))
        yield psutil.Process(process.pid)
    finally:
        children = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGTERM)
        psutil.wait_procs(children, timeout=10)
        for child in children:
            if child.is_running():
                child.kill()
        process.wait()
