"""What tests share that start servers: free ports, whether one answers, and waiting for it."""

from __future__ import annotations

import contextlib
import secrets
import socket
import time
import urllib.request
from collections.abc import Callable
from typing import Any


def free_port() -> int:
    """One below those that the system gives to connections, any of which could get it first."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def is_healthy(uri: str) -> bool:
    """Whether an MLflow server answers that it is."""
    try:
        with urllib.request.urlopen(f"{uri}/health", timeout=1) as response:
            return response.status == 200
    except OSError:
        return False


def wait_for(look: Callable[[], Any], timeout_s: float = 180) -> Any:
    """What `look` returns once it is neither None nor false."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")
