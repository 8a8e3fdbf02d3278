"""Answers in a moment whether a tracking server is there, without importing mlflow. Whether it lets us
in is `orchestrator.tracking_access`'s question.
"""

from __future__ import annotations

import os
import re
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from orchestrator.errors import UserError

TIMEOUT_S = 5.0
_SQLITE_MAGIC = b"SQLite format 3\0"
_MAX_ANSWER = 200
_PASSWORDS = ("passw", "pwd")
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
    refuse_password(uri)
    if scheme in ("http", "https"):
        _check_server(uri)
    elif scheme == "sqlite":
        _check_sqlite(uri)
    elif not colon or scheme.split("+")[0] not in _OTHER_SCHEMES:
        raise UserError(
            f"tracking.uri is {uri!r}, which is not supported here; "
            "write sqlite:///mlflow.db or http://HOST:PORT"
        )


def refuse_password(uri: str) -> None:
    """Checks that the tracking URI holds no password.

    Raises:
        UserError: it does.
    """
    if holds_password(uri):
        raise UserError(
            "tracking.uri holds a password, which would be written to many places; give it as "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or as the database's own variable, "
            "such as PGPASSWORD",
            location=("tracking", "uri"),
        )


def refusal(uri: str, status: int, what: str, answer: str) -> str:
    """Why a server does not let us in, and what to change.

    Args:
        uri: of the server.
        status: as it answered: 401, 403, or that of a fault of its own.
        what: we asked for, such as "to read the experiment 'digits'".
        answer: the text with it.
    """
    names = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN,"
    if status == 401:
        return (
            f"{uri} takes no one without the right credentials (401); set {names} "
            "or write the first two to ~/.mlflow/credentials"
        )
    said = " ".join(re.sub("<[^>]*>", " ", answer).split())[:_MAX_ANSWER]
    if status != 403:
        return (
            f"{uri} fails to say whether we have the permission {what} ({status}: {said}); its log "
            "says why. MLflow's basic-auth does so where it is given MLFLOW_TRACKING_TOKEN: it takes "
            "names and passwords alone"
        )
    return (
        f"{uri} does not allow the user of these credentials {what} (403: {said}); "
        "have that permission given, or use another user or experiment"
    )


def holds_password(uri: str) -> bool:
    """Before the host, also with a slash in it as AWS's may have, or as an option of a database."""
    place = uri.partition("://")[2]
    authority = place.partition("/")[0]
    user, port = authority.rpartition("@")[0], authority.rpartition(":")[2]
    if ":" in authority and "@" in place and "[" not in authority and not port.isdigit():
        user = authority
    try:
        query = parse_qsl(urlsplit(uri).query)
    except ValueError:
        query = []
    options = [name.lower() for name, _ in query] + [
        part.partition("=")[0].strip().lower()
        for name, value in query
        if name == "odbc_connect"
        for part in value.split(";")
    ]
    return ":" in user or any(word in name for name in options for word in _PASSWORDS)


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
