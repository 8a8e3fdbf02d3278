"""A Ray cluster of several nodes on this machine, each a raylet of its own, and what happens to it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from tests.servers import free_port, listens, wait_for

_RAY = str(Path(sys.executable).with_name("ray"))
_PORTS = ("--min-worker-port=0", "--max-worker-port=0")
"""Any that are free: nodes have the same range else, and here the same machine."""
_JOINS = """
import sys, time, ray
ray.init(sys.argv[1], log_to_driver=False)
while sum(node["Alive"] for node in ray.nodes()) < int(sys.argv[2]):
    time.sleep(0.1)
"""
"""A program that ends once a cluster has that many nodes."""
_HIDES = 'mount -t tmpfs tmpfs "$0" && exec "$@"'
_IDLE_S = 10
"""After which the autoscaler ends a node that does nothing."""
_HEAD_TYPE = "ray.head.default"
NOTICE_S = 3
"""Between the notice of a node's preemption and its end."""


class Node(NamedTuple):
    """What `ray start` made."""

    starter: subprocess.Popen[bytes]
    raylet: psutil.Process

    @property
    def id(self) -> str:
        (option,) = [part for part in self.raylet.cmdline() if part.startswith("--node_id=")]
        return option.removeprefix("--node_id=")

    @property
    def processes(self) -> list[psutil.Process]:
        """Those that the raylet started."""
        with contextlib.suppress(psutil.Error):
            return self.raylet.children(recursive=True)
        return []


class NodeCluster:
    """A head, where drivers join and no trial fits, and nodes for some trials each.

    Args:
        num_nodes: beside the head.
        environment: of all nodes.
        num_cpus: of each node.
        grows_by: nodes that Ray's autoscaler may add, as others ask it to.
    """

    def __init__(
        self, num_nodes: int, environment: Mapping[str, str], num_cpus: int = 1, grows_by: int = 0
    ) -> None:
        self._environment = environment
        self._num_cpus = num_cpus
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        self.nodes: list[Node] = []
        head = ("--head", "--port", str(port), "--num-cpus=0", "--include-dashboard=false")
        autoscaler = {"AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_FAKE_CLUSTER": "1"} if grows_by else {}
        self._folder = tempfile.TemporaryDirectory()
        if grows_by:
            config = Path(self._folder.name) / "autoscaler.json"
            config.write_text(json.dumps(_autoscaling(self.address, num_cpus, grows_by)))
            head = (*head, f"--autoscaling-config={config}")
        self._head = self._start(head, autoscaler)
        wait_for(lambda: listens(port))
        for _ in range(num_nodes):
            self.add_node()
        joins = [sys.executable, "-c", _JOINS, self.address, str(1 + num_nodes)]
        subprocess.run(joins, env=self._environment, check=True, capture_output=True, timeout=120)

    def add_node(self, hidden: Path | None = None, **environment: str) -> None:
        """One more node.

        Args:
            hidden: a folder of this machine in whose place the node has an empty disk.
            environment: of the node alone.
        """
        options = ("--address", self.address, f"--num-cpus={self._num_cpus}")
        self.nodes.append(self._start(options, environment, hidden))

    def _start(
        self,
        options: tuple[str, ...],
        environment: Mapping[str, str] = {},
        hidden: Path | None = None,
    ) -> Node:
        prefix = ["unshare", "--mount", "sh", "-c", _HIDES, str(hidden)] if hidden else []
        starter = subprocess.Popen(
            [*prefix, _RAY, "start", "--block", "--disable-usage-stats", *_PORTS, *options],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            env={**self._environment, **environment},
        )  # fmt: skip
        node = Node(starter, wait_for(lambda: self._raylet(starter)))
        wait_for(lambda: node.processes)  # it has its ports; two at once might choose the same
        return node

    @staticmethod
    def _raylet(starter: subprocess.Popen[bytes]) -> psutil.Process | None:
        assert starter.poll() is None, "the node ended at once"
        with contextlib.suppress(psutil.NoSuchProcess):  # of those that it starts some end at once
            children = psutil.Process(starter.pid).children()
            return next((child for child in children if child.name() == "raylet"), None)
        return None

    def kill_nodes(self) -> None:
        """Kills the raylets of all nodes but the head, with which all of their processes end."""
        for node in [*self.nodes]:
            self._kill(node)

    def _kill(self, node: Node) -> None:
        self.nodes.remove(node)
        with contextlib.suppress(psutil.NoSuchProcess):  # one that is preempted may end by itself
            node.raylet.kill()
        node.starter.wait()

    def _training_node(self) -> Node:
        return wait_for(lambda: next((n for n in self.nodes if any(map(_trains, n.processes))), None))

    def preempt_node(self) -> None:
        """Announces the end of a node that trains to Ray, and brings it about."""
        node = self._training_node()
        command = [
            _RAY, "drain-node", "--address", self.address, "--node-id", node.id,
            "--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "it is wanted elsewhere",
            "--deadline-remaining-seconds", str(NOTICE_S),
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, env=self._environment)
        time.sleep(NOTICE_S)
        self._kill(node)

    def kill_agent_of_head(self) -> None:
        """Kills the dashboard's agent on the head, with which its raylet ends."""
        (agent,) = [p for p in self._head.processes if "DashboardAgent" in _name(p)]
        agent.kill()

    @property
    def num_added(self) -> int:
        """Nodes that the autoscaler has running."""
        children = psutil.Process(self._head.starter.pid).children(recursive=True)
        return sum(_name(child).partition(" ")[0].endswith("/raylet") for child in children) - 1

    def training_process(self) -> psutil.Process:
        """Of a trial without a worker group."""
        return next(filter(_trains, self._training_node().processes))

    def pause_training(self) -> None:
        """Suspends all that train without a worker group, for good."""
        self._training_node()
        for process in (process for node in self.nodes for process in node.processes):
            if _trains(process):
                process.suspend()

    def close(self) -> None:
        for node in (*self.nodes, self._head):
            for process in _descendants(node.starter.pid):
                with contextlib.suppress(psutil.Error):
                    process.kill()
            node.starter.wait()
        self._folder.cleanup()


def _autoscaling(address: str, num_cpus: int, grows_by: int) -> dict[str, Any]:
    """What Ray's autoscaler reads, with its provider whose nodes are raylets on this machine."""
    provider = dict.fromkeys(
        ("use_node_id_as_ip", "disable_node_updaters", "disable_launch_config_check"), True
    )
    unused = ("initialization_commands", "setup_commands", "head_setup_commands", "rsync_exclude",
              "worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands",
              "cluster_synced_files", "rsync_filter")  # fmt: skip
    types = {
        _HEAD_TYPE: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "worker": {"resources": {"CPU": num_cpus}, "node_config": {}, "max_workers": grows_by},
    }
    return {
        "cluster_name": "growing", "max_workers": grows_by, "idle_timeout_minutes": _IDLE_S / 60,
        "provider": {"type": "fake_multinode", "gcs_address": address, **provider},
        "head_node_type": _HEAD_TYPE, "available_node_types": types, "upscaling_speed": 1.0,
        "auth": {}, "docker": {}, "file_mounts": {}, "file_mounts_sync_continuously": False,
        **{name: [] for name in unused},
    }  # fmt: skip


def _descendants(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def _trains(process: psutil.Process) -> bool:
    return "ImplicitFunc" in _name(process)


def _name(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""
