"""An MLflow client in a process of its own.

What the client does for one report is tens of milliseconds of Python. On a thread of the driver it
took the interpreter from the driver itself, whose reports then took 2.5 times as long.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from mlflow import MlflowClient

from orchestrator.remote_object import RemoteObject


class MlflowProcess:
    """An `MlflowClient` that lives in another process (`orchestrator.remote_object`).

    Args:
        uri: of the tracking store.
        log: the file that MLflow's warnings go to.
    """

    def __init__(self, uri: str, log: Path) -> None:
        self._remote = RemoteObject(
            "the MLflow client", functools.partial(MlflowClient, tracking_uri=uri), log
        )

    def start(self) -> None:
        """Starts the process, which imports MLflow while the caller goes on."""
        self._remote.start()

    @property
    def client(self) -> MlflowClient:
        """The client as its callers know it; arguments, results and errors are copies."""
        return cast(MlflowClient, _Client(self._remote.call))

    @property
    def pid(self) -> int | None:
        """Of the process; None while there is none."""
        return self._remote.pid

    def close(self) -> None:
        """Ends the process, once what it is doing is done or has taken too long."""
        self._remote.close()


class _Client:
    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        return functools.partial(self._call, name)
