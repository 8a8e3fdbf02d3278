"""Heads of Ray clusters, started as their user would and ended without `ray stop`, which ends all."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

from tests.servers import free_port, listens, wait_for


class Head(NamedTuple):
    """One with a dashboard.

    Attributes:
        dashboard: its address.
        gcs: the address that drivers join.
        process: of `ray start`.
    """

    dashboard: str
    gcs: str
    process: psutil.Process


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
        for child in children:
            with contextlib.suppress(psutil.Error):
                child.kill()
        process.wait(60)  # it ends with them


@contextmanager
def running_dashboard(token: str, log: Path) -> Iterator[Head]:
    """A head that takes jobs from who has the token, with ports that are nobody else's.

    Args:
        log: takes what it prints.
    """
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # paths of sockets are at most 107 bytes
    port, dashboard, agent = free_port(), free_port(), free_port()
    ports = {
        "dashboard-port": dashboard,
        "dashboard-agent-listen-port": agent,
        "dashboard-agent-grpc-port": free_port(),
        "metrics-export-port": free_port(),
    }
    options = ["--temp-dir", folder, "--dashboard-host", "127.0.0.1"]
    options += [part for name, number in ports.items() for part in (f"--{name}", str(number))]
    environment = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    with running_head(*options, port=port, environment=environment, log=log) as process:
        has_ended = lambda: process.status() == psutil.STATUS_ZOMBIE  # noqa: E731
        wait_for(lambda: (listens(dashboard) and listens(agent)) or has_ended())
        assert not has_ended(), log.read_text()
        yield Head(f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{port}", process)
    shutil.rmtree(folder, ignore_errors=True)
