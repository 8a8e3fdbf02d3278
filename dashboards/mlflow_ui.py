"""MLflow's own pages for a store that has no server: `mlflow server` on loopback, as long as we run."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

_LOOPBACK = "127.0.0.1"
_PR_SET_PDEATHSIG = 1
_PATIENCE_S = 10.0


@contextlib.contextmanager
def mlflow_ui(uri: str) -> Iterator[str]:
    """Starts a server and ends it; yields its address, which answers after some seconds.

    Args:
        uri: of the store.
    """
    port = _free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--host", _LOOPBACK, "--port", str(port), "--workers", "1"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        start_new_session=True,  # Ctrl-C is for us, and we end it
        preexec_fn=_end_with_parent,  # noqa: PLW1509 - it calls one function of the C library
    )
    try:
        yield f"http://{_LOOPBACK}:{port}"
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((_LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _end_with_parent() -> None:
    """In the new process: a kill of ours ends it too."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
