"""The environment variables that Ray and MLflow read when they are imported. Imports neither."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from orchestrator.ray_token import find_token

_RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean the same in every process
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE": "1",  # Tune would retry it, and orchestrator.retries does
    "TUNE_MAX_PENDING_TRIALS_PG": "1000",  # TrialSearcher never hands out more than fit at once
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # orchestrator.budget handles it
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
_LOOPBACK = {
    # Ray's own switch of what it does on systems other than Linux: all of a local Ray is on 127.0.0.1.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "GLOO_SOCKET_IFNAME": "lo",
    "NCCL_SOCKET_IFNAME": "lo",
}
_RAY_TOKEN = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
_MLFLOW = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the tracker's queue repeats, as open pages do
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def prepare(address: str | None) -> None:
    """Sets what the user has not set; call it before ray and mlflow are imported.

    Args:
        address: the Ray cluster that will be joined; its token is used where there is one. None for one
            of our own, reached over loopback alone, with a token that only its processes know.

    Raises:
        UserError: the token that the environment names cannot be read.
    """
    _set(_RAY)
    if address is None:
        _set({**_LOOPBACK, **_own_token()})
    elif find_token(os.environ, Path.home()):
        _set({"RAY_AUTH_MODE": "token"})
    prepare_mlflow()


def _own_token() -> dict[str, str]:
    """Of a Ray that nobody else joins: new each time, and in the environment alone, never in a file."""
    if any(os.environ.get(name) for name in _RAY_TOKEN):
        return {}
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def prepare_mlflow() -> None:
    """The same of MLflow alone."""
    _set(_MLFLOW)


def _set(variables: Mapping[str, str]) -> None:
    for name, value in variables.items():
        os.environ.setdefault(name, value)
