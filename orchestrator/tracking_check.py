"""Answers in a moment whether a tracking server is there, without importing mlflow."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from orchestrator.errors import UserError

TIMEOUT_S = 5.0


def check_tracking(uri: str) -> None:
    """Checks that the tracking URI leads somewhere; creates nothing.

    Raises:
        UserError: no server answers, or the database's folder is missing or not writable.
    """
    scheme = urlsplit(uri).scheme
    if scheme in ("http", "https"):
        _check_server(uri)
    elif scheme == "sqlite":
        _check_sqlite(uri)
    elif not scheme:
        raise UserError(
            f"tracking.uri is {uri!r}, which has no scheme; "
            "write sqlite:///mlflow.db or http://HOST:PORT"
        )


def _check_server(uri: str) -> None:
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=TIMEOUT_S) as response:  # noqa: S310 - http(s) only, checked by the caller
            response.read(16)
    except urllib.error.HTTPError as error:
        raise UserError(f"tracking.uri: {uri} answers {error.code}; is it an MLflow server?") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise UserError(
            f"tracking.uri: no answer from {uri} ({reason}); "
            "start the server, or set tracking.uri to one that runs"
        ) from None


def _check_sqlite(uri: str) -> None:
    if not uri.startswith("sqlite:///"):
        raise UserError(f"tracking.uri: a database file is named with three slashes, got {uri!r}")
    database = Path(uri.removeprefix("sqlite:///"))
    folder = database.absolute().parent
    if not folder.is_dir():
        raise UserError(f"tracking.uri: the folder {folder} does not exist; make it, or name another")
    target = database if database.exists() else folder
    if not os.access(target, os.W_OK):
        raise UserError(f"tracking.uri: {target} is not writable")
