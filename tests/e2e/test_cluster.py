"""A sweep on a Ray cluster that was there before it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from heads import running_head
from servers import free_port
from sweep_runs import EVALUATED, REPOSITORY, TINY, command, run_sweep

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a head node as `ray start` makes it; that it has a GPU is only said."""
    port = free_port()
    with running_head("--include-dashboard=false", "--num-gpus", "1", port=port, environment={}):
        yield f"127.0.0.1:{port}"


@pytest.mark.parametrize("setting", ["resources.gpus", "evaluation.gpus"])
def test_a_gpu_that_torch_does_not_find_is_refused(setting: str, cluster: str, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("needs a machine without a GPU")
    sweep = run_sweep(
        tmp_path, "slow", *EVALUATED, "--set", f"{setting}=1", "--address", cluster, has_store=False
    )
    assert sweep.returncode == 2
    assert f"{setting}=1: Ray gave this process a GPU of " in sweep.stderr
    assert f"finds none; see the driver there (nvidia-smi), or set {setting} to 0" in sweep.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_sweep_that_waits_for_nodes_can_be_stopped(
    number: signal.Signals, cluster: str, tmp_path: Path
) -> None:
    settings = ("--set", "resources.cpus=64", "--set", "resources.wait_for_nodes=10m")
    with subprocess.Popen(
        [*command(tmp_path, "waits", TINY, *settings), "--address", cluster],
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as sweep:  # fmt: skip
        assert sweep.stdout is not None and sweep.stderr is not None
        assert next(line for line in sweep.stdout if line.startswith("waiting up to 600 s for a node"))
        sweep.send_signal(number)
        assert sweep.wait(60) == 130
        assert sweep.stderr.read() == "interrupted\n"
    assert list(tmp_path.iterdir()) == []
