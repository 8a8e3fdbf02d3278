from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from orchestrator.errors import UserError
from orchestrator.tracking_check import check_tracking, holds_password


class Handler(BaseHTTPRequestHandler):
    """Answers /health under /mlflow as MLflow does, and 404 elsewhere."""

    def do_GET(self) -> None:
        is_healthy = self.path == "/mlflow/health"
        self.send_response(200 if is_healthy else 404)
        self.end_headers()
        self.wfile.write(b"OK" if is_healthy else b"nothing here")

    def log_message(self, format: str, *args: object) -> None:
        """Keeps the tests quiet."""


@pytest.fixture
def server() -> Iterator[str]:
    """The address of a running HTTP server."""
    with HTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.mark.slow
@pytest.mark.parametrize("end", ["", "/"])
def test_a_server_that_answers_is_accepted(end: str, server: str) -> None:
    check_tracking(f"{server}/mlflow{end}")


@pytest.mark.slow
def test_a_server_that_is_no_mlflow_is_refused(server: str) -> None:
    with pytest.raises(UserError, match=f"tracking.uri: {server} answers 404; is it an MLflow server"):
        check_tracking(server)


def test_a_port_where_nobody_listens_is_refused() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(UserError, match=f"no answer from {uri} .*refused.*; start the server"):
            check_tracking(uri)


def test_an_address_without_host_is_refused() -> None:
    with pytest.raises(UserError, match=r"no answer from http://"):
        check_tracking("http://")


@pytest.mark.parametrize("uri", ["mlflow.db", "", "localhost", "/tmp/mlflow.db"])
def test_a_uri_without_scheme_is_refused(uri: str) -> None:
    with pytest.raises(
        UserError, match=r"not supported here; write sqlite:///mlflow\.db or http://HOST:PORT"
    ):
        check_tracking(uri)


def test_two_slashes_before_a_database_are_refused() -> None:
    with pytest.raises(UserError, match="three slashes"):
        check_tracking("sqlite://mlflow.db")


def test_a_database_in_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"folder {tmp_path}/missing does not exist"):
        check_tracking(f"sqlite:///{tmp_path}/missing/mlflow.db")


@pytest.mark.parametrize("exists", [True, False])
def test_a_place_that_cannot_be_written_is_refused(
    exists: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if exists:
        (tmp_path / "mlflow.db").touch()
    asked: list[Path] = []
    # Tests often run as root, for whom everything is writable.
    monkeypatch.setattr(os, "access", lambda path, mode: asked.append(path))
    with pytest.raises(UserError, match="is not writable"):
        check_tracking(f"sqlite:///{tmp_path}/mlflow.db")
    assert asked == [tmp_path / "mlflow.db" if exists else tmp_path]


def test_nothing_is_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_tracking("sqlite:///mlflow.db")
    check_tracking(f"sqlite:///{tmp_path}/other.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\0 and its pages"])
def test_a_present_database_is_accepted_and_untouched(content: bytes, tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    database.write_bytes(content)
    check_tracking(f"sqlite:///{database}")
    assert database.read_bytes() == content


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    database.write_bytes(b"a shopping list")
    with pytest.raises(UserError, match="is not an SQLite database"):
        check_tracking(f"sqlite:///{database}")


@pytest.mark.parametrize(
    "uri",
    [
        "http://me:secret@localhost:5000",
        "postgresql://me:secret@db/mlflow",
        "postgresql://db/mlflow?user=me&password=secret",
        "mysql+pymysql://db/mlflow?passwd=secret",
        "mssql+pyodbc:///?odbc_connect=SERVER%3Ddb%3BPWD%3Dsecret",
    ],
)
def test_a_password_in_the_address_is_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(UserError, match="MLFLOW_TRACKING_PASSWORD") as caught:
        check_tracking(uri)
    assert "secret" not in str(caught.value)


def test_a_user_without_a_password_is_accepted() -> None:
    check_tracking("postgresql://me@db/mlflow?sslmode=require")
    assert not holds_password("https://me@tracking:5000/a@b")


@pytest.mark.parametrize("uri", ["http://[::1", "http://localhost:abc", "http://a b", "https://"])
def test_an_address_that_is_none_is_refused(uri: str) -> None:
    with pytest.raises(UserError, match="no answer from"):
        check_tracking(uri)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("sqlite:////tmp", "is a folder"),
        ("sqlite:///", "three slashes"),
        ("foo://x", "not supported here"),
    ],
)
def test_a_database_that_is_no_file_is_refused(uri: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_tracking(uri)
