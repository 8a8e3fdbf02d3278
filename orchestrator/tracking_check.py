"""Answers in a moment whether a tracking server is there, without importing mlflow."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path

from orchestrator.errors import UserError

TIMEOUT_S = 5.0
_SQLITE_MAGIC = b"SQLite format 3\0"
_OTHER_SCHEMES = ("postgresql", "mysql", "mssql", "databricks")


def check_tracking(uri: str) -> None:
    """Checks that the tracking URI leads somewhere; creates nothing.

    Raises:
        UserError: no server answers, or the database's folder is missing or not writable.
    """
    try:
        _check(uri)
    except UserError as error:
        raise UserError(str(error), location=("tracking", "uri")) from None


def _check(uri: str) -> None:
    scheme, colon, _ = uri.partition(":")
    if (
        "@" in uri.partition("://")[2].partition("/")[0]
        and ":" in uri.partition("://")[2].partition("@")[0]
    ):
        raise UserError(
            "tracking.uri holds a password, which would be written to many places; give it as "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or as the database's own variable"
        )
    if scheme in ("http", "https"):
        _check_server(uri)
    elif scheme == "sqlite":
        _check_sqlite(uri)
    elif not colon or scheme.split("+")[0] not in _OTHER_SCHEMES:
        raise UserError(
            f"tracking.uri is {uri!r}, which is not supported here; "
            "write sqlite:///mlflow.db or http://HOST:PORT"
        )


def _check_server(uri: str) -> None:
    try:
        address = f"{uri.rstrip('/')}/health"
        with urllib.request.urlopen(address, timeout=TIMEOUT_S) as response:  # noqa: S310 - http(s) only
            response.read(16)
    except urllib.error.HTTPError as error:
        raise UserError(f"tracking.uri: {uri} answers {error.code}; is it an MLflow server?") from None
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(
            f"tracking.uri: no answer from {uri} ({reason}); "
            "start the server, or set tracking.uri to one that runs"
        ) from None


def _check_sqlite(uri: str) -> None:
    name = uri.removeprefix("sqlite:///")
    if not uri.startswith("sqlite:///") or not name:
        raise UserError(f"tracking.uri: write sqlite:///FILE with three slashes, got {uri!r}")
    database = Path(name)
    folder = database.absolute().parent
    if not folder.is_dir():
        raise UserError(f"tracking.uri: the folder {folder} does not exist; make it, or name another")
    if database.is_dir():
        raise UserError(f"tracking.uri: {database} is a folder; name a file for the database")
    if database.exists() and not _is_database(database):
        raise UserError(f"tracking.uri: {database} is not an SQLite database; name another file")
    target = database if database.exists() else folder
    if not os.access(target, os.W_OK):
        raise UserError(f"tracking.uri: {target} is not writable")


def _is_database(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            start = opened.read(len(_SQLITE_MAGIC))
    except OSError:
        return True  # unreadable, which the access check says better
    return start in (b"", _SQLITE_MAGIC)
