from __future__ import annotations

import functools
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from orchestrator.child_process import ChildProcess
from orchestrator.errors import UserError
from orchestrator.operation_queue import is_refused_for_good
from orchestrator.remote_object import RemoteObject

pytestmark = pytest.mark.slow


class Counter:
    """What lives in the other process."""

    def __init__(self, start: int) -> None:
        self._count = start

    def add(self, number: int, *, times: int = 1) -> int:
        self._count += number * times
        return self._count

    def where(self) -> int:
        return os.getpid()

    def warn(self, text: str) -> None:
        logging.getLogger("orchestrator").warning(text)

    def refuse(self) -> None:
        raise UserError("not today")

    def upload(self, file: Path) -> None:
        with file.open("rb") as content:
            request = requests.Request("PUT", "http://127.0.0.1/a", data=content).prepare()
            response = requests.Response()
            response.status_code, response.request = 401, request
            raise requests.HTTPError("401 Client Error", response=response)

    def vanish(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[RemoteObject]:
    made = RemoteObject("the counter", functools.partial(Counter, 10), tmp_path / "log")
    yield made
    made.close()


def test_calls_reach_one_object_in_another_process(remote: RemoteObject) -> None:
    assert remote.pid is None
    assert (remote.call("add", 1), remote.call("add", 2, times=3)) == (11, 17)
    assert remote.call("where") == remote.pid != os.getpid()


def test_an_error_is_raised_here_and_the_object_lives_on(remote: RemoteObject) -> None:
    remote.call("add", 1)
    with pytest.raises(UserError, match="not today"):
        remote.call("refuse")
    assert remote.call("add", 1) == 12


def test_a_refused_upload_is_raised_here_with_its_status(remote: RemoteObject, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(requests.HTTPError, match="401 Client Error") as caught:
        remote.call("upload", tmp_path / "file")
    assert caught.value.response is not None and caught.value.response.status_code == 401
    assert not is_refused_for_good(caught.value)


def test_a_process_that_ended_is_told_and_started_anew(remote: RemoteObject) -> None:
    remote.call("add", 1)
    with pytest.raises(ConnectionError, match=r"the process of the counter ended \(-9\)"):
        remote.call("vanish")
    assert remote.pid is None
    assert remote.call("add", 1) == 11


def test_one_that_is_started_before_its_folder_is_there_logs_to_it_once_it_is_called(
    tmp_path: Path,
) -> None:
    log = tmp_path / "later" / "log"
    remote = RemoteObject("the counter", functools.partial(Counter, 10), log)
    remote.start()
    pid = remote.pid
    assert pid is not None
    log.parent.mkdir()
    remote.call("warn", "mind the gap")
    assert remote.call("where") == pid
    remote.close()
    assert "mind the gap" in log.read_text()


@pytest.mark.parametrize("is_called", [True, False])
def test_only_one_that_was_called_is_waited_for(
    is_called: bool, remote: RemoteObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[ChildProcess] = []
    end, kill = ChildProcess.end, ChildProcess.kill
    monkeypatch.setattr(ChildProcess, "kill", lambda self: (killed.append(self), kill(self)))
    monkeypatch.setattr(ChildProcess, "end", lambda self: (before.extend(killed), end(self))[1])
    before: list[ChildProcess] = []
    remote.start()
    if is_called:
        remote.call("where")
    remote.close()
    assert len(before) == (not is_called)
    assert remote.pid is None


def test_closing_ends_the_process(remote: RemoteObject) -> None:
    pid = remote.call("where")
    remote.close()
    assert remote.pid is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
