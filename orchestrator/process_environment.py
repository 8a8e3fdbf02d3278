"""The environment variables that Ray and MLflow read when they are imported. Imports neither."""

from __future__ import annotations

import os
from pathlib import Path

_RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean the same in every process
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_MAX_PENDING_TRIALS_PG": "1000",  # TrialSearcher never hands out more than fit at once
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # orchestrator.budget handles it
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
_MLFLOW = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the tracker's queue repeats, and says so in the log
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def prepare(address: str | None) -> None:
    """Sets what the user has not set; call it before ray and mlflow are imported.

    Args:
        address: the Ray cluster that will be joined; its token is used where there is one.
    """
    token_file = Path.home() / ".ray" / "auth_token"
    joins_with_token = address is not None and token_file.exists()
    token = {"RAY_AUTH_MODE": "token"} if joins_with_token else {}
    for name, value in {**_RAY, **_MLFLOW, **token}.items():
        os.environ.setdefault(name, value)
