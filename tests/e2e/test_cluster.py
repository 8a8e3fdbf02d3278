"""A sweep on a Ray cluster that was there before it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from sweep_runs import run_sweep, wait_for

pytestmark = pytest.mark.slow


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def cluster() -> Iterator[str]:
    """The address of a head node as `ray start` makes it, stopped again without `ray stop`."""
    port = _free_port()
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus", "2",
         "--port", str(port), "--include-dashboard=false", "--disable-usage-stats"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    wait_for(lambda: _listens(port))
    yield f"127.0.0.1:{port}"
    children = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGTERM)
    psutil.wait_procs(children, timeout=10)
    for child in children:
        if child.is_running():
            child.kill()
    process.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_sweep_joins_a_cluster_and_leaves_it_running(cluster: str, tmp_path: Path) -> None:
    sweep = run_sweep(tmp_path, "joined", "--trials", "2", "--address", cluster)
    assert sweep.returncode == 0, sweep.stdout + sweep.stderr
    assert sweep.record.count("completed") == 2
    assert _listens(int(cluster.rpartition(":")[2]))
