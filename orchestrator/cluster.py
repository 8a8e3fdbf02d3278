"""Starts or joins Ray, quietly. The only file that sets Ray's environment."""

from __future__ import annotations

import logging
import os
import socket
from typing import Any

import ray

from orchestrator.errors import UserError
from orchestrator.resources import Node

_CONNECT_TIMEOUT_S = 5.0
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean the same in every process
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # orchestrator.budget handles it
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


def connect(address: str | None) -> list[Node]:
    """Joins the Ray cluster at `address` ("auto": the one on this machine), or starts a local one.

    Returns:
        The resources of each node that is alive.

    Raises:
        UserError: there is no cluster at `address`.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for name in ("ray", "ray.tune", "ray.train", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    options = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        ray.init(
            address="local",
            include_dashboard=False,
            runtime_env=_worker_environment(),
            **options,
        )
    else:
        _join(address, options)
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


def has_nodes() -> bool:
    """Whether any node of the cluster is alive."""
    return any(node["Alive"] for node in ray.nodes())


def _worker_environment() -> dict[str, dict[str, str]]:
    return {"env_vars": {"PYTHONWARNINGS": "ignore", "RAY_CHDIR_TO_TRIAL_DIR": "0"}}


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
