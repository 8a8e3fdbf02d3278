"""Nodes of a cluster: what each does for itself, and how many there are."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from clusters import NodeCluster
from PIL import Image
from servers import wait_for
from sweep_runs import run_sweep

pytestmark = pytest.mark.slow

READ_ON_EACH_NODE = """
import json, sys, time
from orchestrator import process_environment
address, source = sys.argv[1:]
process_environment.prepare(address)
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

@ray.remote(num_cpus=0.4)
def read(source):
    import os
    from trainables.config import DataConfig
    from trainables.images import require_items
    digest = require_items("image_folder", DataConfig(source=source, image_size=8)).digest
    return digest, os.environ["MONOCON_CACHE"]

ray.init(address=address, log_to_driver=False, logging_level="ERROR")
nodes = []
while len(nodes) < 2:
    time.sleep(0.2)
    nodes = [node["NodeID"] for node in ray.nodes() if node["Resources"].get("CPU")]
tasks = [read.options(scheduling_strategy=On(n, soft=False)).remote(source) for n in nodes * 2]
print(json.dumps(ray.get(tasks)))
"""


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))


def test_data_are_cached_once_on_each_node(tmp_path: Path) -> None:
    for name in ("ant", "bee"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / "images" / name / f"{number}.png")
    caches = [tmp_path / "cache-1", tmp_path / "cache-2"]
    cluster = NodeCluster(0, os.environ)
    try:
        for cache in caches:
            cluster.add_node(MONOCON_CACHE=str(cache))
        command = [sys.executable, "-c", READ_ON_EACH_NODE, cluster.address, str(tmp_path / "images")]
        root = Path(__file__).parents[2]
        run = subprocess.run(command, check=False, cwd=root, capture_output=True, text=True, timeout=200)
    finally:
        cluster.close()
    assert run.returncode == 0, run.stderr
    read = json.loads(run.stdout.splitlines()[-1])
    assert sorted(cache for _, cache in read) == sorted(2 * [str(cache) for cache in caches])
    assert len({digest for digest, _ in read}) == 1
    for cache in caches:
        assert len([path for path in cache.iterdir() if path.is_dir()]) == 1


def test_a_cluster_that_grows_does_so_for_a_sweep_and_shrinks_after_it(tmp_path: Path) -> None:
    settings = ("resources.max_concurrent=2", "resources.wait_for_nodes=2m")
    arguments = ["--trials", "3", *(part for setting in settings for part in ("--set", setting))]
    cluster = NodeCluster(0, os.environ, grows_by=3)
    try:
        assert cluster.num_added == 0
        sweep = run_sweep(
            tmp_path, "grown", *arguments, "--address", cluster.address,
            while_running=lambda driver: wait_for(lambda: cluster.num_added == 2),
        )  # fmt: skip
        wait_for(lambda: cluster.num_added == 0)
    finally:
        cluster.close()
    assert sweep.returncode == 0, sweep.stdout + sweep.stderr
    assert "waiting up to 120 s for a node that a trial fits on" in sweep.stdout
    assert "could not be drawn" not in sweep.stdout
    assert [trial.status for trial in sweep.record.trials.values()] == 3 * ["completed"]


def test_a_node_without_the_sweeps_storage_trains_nothing(tmp_path: Path) -> None:
    unshared = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    if unshared.returncode:
        pytest.skip("needs a node with another disk, and this user may not make one")
    (tmp_path / "runs").mkdir()
    cluster = NodeCluster(0, os.environ)
    try:
        cluster.add_node(hidden=tmp_path / "runs")
        settings = ("--trials", "1", "--set", "max_retries=1", "--set", "resources.wait_for_nodes=1m")
        sweep = run_sweep(tmp_path, "apart", *settings, "--address", cluster.address)
    finally:
        cluster.close()
    assert sweep.returncode == 1
    trial = sweep.record.trials["trial-0000"]
    assert (trial.status, trial.num_retries, trial.points) == ("failed", 1, [])
    assert "is not the sweep's folder; every node must have the same disk there" in trial.reason
    assert f"no trial succeeded; first cause: {trial.name}: {trial.reason}" in " ".join(
        sweep.stdout.split()
    )
    assert sweep.parent.info.status == sweep.children[trial.name].info.status == "FAILED"
