"""Starts or joins Ray, quietly. `orchestrator.process_environment` is prepared before."""

from __future__ import annotations

import logging
import socket
import threading
from typing import Any

import ray

from orchestrator.errors import UserError
from orchestrator.resources import Node

_CONNECT_TIMEOUT_S = 5.0
_ANSWER_TIMEOUT_S = 5.0
_PRIVATE = "private_to_one_sweep"
"""The resource that marks a Ray which a sweep started for itself."""


def connect(address: str | None) -> list[Node]:
    """Joins the Ray cluster at `address` ("auto": the one on this machine), or starts a local one.

    Returns:
        The resources of each node that is alive.

    Raises:
        UserError: there is no cluster at `address`.
    """
    for name in ("ray", "ray.tune", "ray.train", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    options = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        ray.init(
            address="local",
            include_dashboard=False,
            resources={_PRIVATE: 1},
            runtime_env=_worker_environment(),
            **options,
        )
    else:
        _join(address, options)
        _refuse_private(address)
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _join(address: str, options: dict[str, Any]) -> None:
    try:
        if address != "auto":
            _require_listener(address)
        ray.init(address=address, runtime_env=_worker_environment(), **options)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"--address {address}: no Ray cluster answers there ({_first_line(error)}); "
            "start one with `ray start --head`, or leave --address out"
        ) from None


def _require_listener(address: str) -> None:
    """Fails at once where nothing listens; Ray itself would try for minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon or not port.isdigit():
        raise ValueError("an address is auto or HOST:PORT")
    socket.create_connection((host, int(port)), timeout=_CONNECT_TIMEOUT_S).close()


def _refuse_private(address: str) -> None:
    """A Ray that another sweep started for itself ends with that sweep."""
    if _PRIVATE in ray.cluster_resources():
        ray.shutdown()
        raise UserError(
            f"--address {address}: the Ray that runs here belongs to another sweep and ends with it; "
            "start one with `ray start --head`, or leave --address out"
        )


def has_nodes() -> bool:
    """Whether any node of the cluster is alive; a head that does not answer counts as none."""
    alive: list[bool] = []

    def look() -> None:
        alive.append(any(node["Alive"] for node in ray.nodes()))

    thread = threading.Thread(target=look, name="nodes", daemon=True)
    thread.start()
    thread.join(_ANSWER_TIMEOUT_S)
    return bool(alive and alive[0])


def _worker_environment() -> dict[str, dict[str, str]]:
    return {"env_vars": {"PYTHONWARNINGS": "ignore", "RAY_CHDIR_TO_TRIAL_DIR": "0"}}


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
