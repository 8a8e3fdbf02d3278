"""`dashboards.serve` as a command; its pages are in `test_web_app`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from story_stores import START, begun, ended, track_events
from tracked_sweeps import make_store, uri

from dashboards.mlflow_ui import mlflow_ui
from dashboards.serve import main
from dashboards.sweep_store import SweepStore


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--port", "99999"], "--port 99999: ports are from 0 to 65535"),
        (["--port", "-1"], "--port -1: ports are from 0 to 65535"),
        (["--mlflow", "javascript:alert(1)"], "--mlflow javascript:alert(1): not an address"),
        (["--mlflow", "http:"], "--mlflow http:: not an address"),
        (["--mlflow", "http://[::1"], "--mlflow http://[::1: not an address"),
        (["--mlflow", "http://me:pass@host"], "--mlflow names a user, whom every link would hand on"),
        (["--host", "no.such.host.invalid"], "cannot listen there"),
    ],
)
def test_what_cannot_be_is_one_line(
    arguments: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_store(tmp_path)
    capsys.readouterr()  # MLflow's words about the store
    assert main([*arguments, "--uri", uri(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert expected in error and error.count("\n") == 1


def test_mlflow_is_asked_once_and_not_for_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "99")  # what the user says stays
    make_store(tmp_path)
    SweepStore(uri(tmp_path))
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "99"


def status_of(address: str) -> int:
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except OSError:
        return 0


@pytest.mark.slow
def test_a_server_that_is_gone_is_told_at_once_and_does_not_keep_us(tmp_path: Path) -> None:
    track_events(tmp_path, [*begun(), *ended(START + 10)])
    with contextlib.ExitStack() as mlflow:
        tracking = mlflow.enter_context(mlflow_ui(uri(tmp_path)))
        wait_for_status(f"{tracking}/health", 200)
        command = [sys.executable, "-m", "dashboards.serve", "--port", "0", "--uri", tracking]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            state = f"{process.stdout.readline().split()[-1]}/sweeps/digits/state"
            wait_for_status(state, 200)
            mlflow.close()
            before = time.monotonic()
            wait_for_status(state, 503)
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
            assert time.monotonic() - before < 15


def wait_for_status(address: str, status: int, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while status_of(address) != status:
        assert time.monotonic() < deadline
        time.sleep(0.1)
