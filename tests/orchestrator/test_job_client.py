from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable

import pytest
from fake_dashboard import OURS, VERSION, Said, serving

from orchestrator.cluster_address import address_of
from orchestrator.errors import UserError
from orchestrator.job_client import JobServer, connect, package_limit, reason
from orchestrator.job_log import JobLog

JOBS = "/api/jobs/"
CALLS: dict[str, Callable[[JobServer], object]] = {
    JOBS: lambda server: server.jobs(),
    f"{JOBS}a": lambda server: server.job("a"),
    f"{JOBS}a/logs": lambda server: server.log("a"),
    f"{JOBS}a/stop": lambda server: server.stop("a"),
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.setenv(name, "")  # which Ray takes for none, and is as before after the test


@pytest.mark.slow
@pytest.mark.parametrize("path", CALLS)
def test_a_dashboard_that_falls_silent_is_not_waited_for(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.timed_client.ANSWER_S", 0.2)
    with serving({VERSION: OURS, path: None}) as dashboard:
        server = connect(address_of(dashboard.url, {}))
        with pytest.raises(UserError) as caught:
            CALLS[path](server)
    assert str(caught.value) == f"--address {dashboard.url}: no answer from there within 0.2 s"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:ssl=None is deprecated:DeprecationWarning")  # Ray's own use
def test_following_ends_where_a_dashboard_falls_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.timed_client.ANSWER_S", 0.1)
    monkeypatch.setattr("orchestrator.job_log._QUIET_S", 0.1)
    silent = {f"{JOBS}a/logs/tail": None, f"{JOBS}a": None}
    with serving({VERSION: OURS, **silent}) as dashboard:
        log = JobLog(connect(address_of(dashboard.url, {})), "a", lambda text: None)
        began = time.monotonic()
        with pytest.raises(UserError, match=r"within 0\.1 s; a may be running, look again with --st"):
            log.follow(patience_s=0.5, sleep=lambda _: None)
        assert time.monotonic() - began < 5
    assert {path for path, _ in dashboard.seen} == {VERSION, *silent}


NO_AGENT = Said(500, b"No available agent to submit job, please try again later.")


def submit(server: JobServer) -> None:
    server.submit("a", "python -m orchestrator.sweep", {}, {})


@pytest.mark.slow
def test_a_head_that_is_not_ready_yet_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.job_client._LOOK_EVERY_S", 0.1)
    answers: dict[str, Said | None] = {VERSION: OURS, JOBS: NO_AGENT}
    with serving(answers) as dashboard:
        server = connect(address_of(dashboard.url, {}))
        starts = Said(200, json.dumps({"job_id": "a", "submission_id": "a"}).encode())
        ready = threading.Timer(0.5, answers.update, [{JOBS: starts}])
        ready.start()
        submit(server)
        ready.join()
    assert [path for path, _ in dashboard.seen].count(JOBS) > 1


@pytest.mark.slow
def test_a_head_that_never_gets_ready_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.job_client._LOOK_EVERY_S", 0.05)
    monkeypatch.setattr("orchestrator.job_client._AGENT_S", 0.2)
    with serving({VERSION: OURS, JOBS: NO_AGENT}) as dashboard:
        server = connect(address_of(dashboard.url, {}))
        with pytest.raises(UserError) as caught:
            submit(server)
    assert str(caught.value) == (
        f"--address {dashboard.url}: the head's dashboard agent, which starts jobs, has not been ready "
        "for 0.2 s; see dashboard_agent.log in Ray's logs on the head"
    )


@pytest.mark.slow
@pytest.mark.parametrize("path", CALLS)
def test_no_request_follows_a_redirect(path: str) -> None:
    with serving({path: Said(200)}) as other:
        redirect = Said(307, target=f"{other.url}{path}")
        with serving({VERSION: OURS, path: redirect}) as dashboard:
            server = connect(address_of(dashboard.url, {}))
            with pytest.raises(UserError, match=f"it redirects to {other.url}; give that address"):
                CALLS[path](server)
    assert other.seen == []


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_cluster_that_is_gone_is_said_at_once_with_what_named_it(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        text = f"{scheme}127.0.0.1:{bound.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", text)
        began = time.monotonic()
        with pytest.raises(UserError, match=f"^RAY_ADDRESS={text}: no answer from there .*refused"):
            connect(address_of(None, {"RAY_ADDRESS": text}))
        assert time.monotonic() - began < 10  # most of which is the import of ray


def test_a_word_that_is_no_address_is_said_with_what_gave_it() -> None:
    with pytest.raises(UserError, match=r"^RAY_ADDRESS=somewhere: "):
        connect(address_of(None, {"RAY_ADDRESS": "somewhere"}))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "Request failed with status code 400: Traceback (most recent call last):\n"
            '  File "job_head.py", line 419, in submit_job\n'
            "    raise ValueError(\n"
            "ValueError: Job with submission_id a already exists.\n"
            "More of it.\n.",
            "ValueError: Job with submission_id a already exists.",
        ),
        (
            "Request failed with status code 500: Traceback (most recent call last):\n"
            "ValueError: first\n\n"
            "During handling of the above exception, another exception occurred:\n\n"
            "ray.exceptions.RuntimeEnvSetupError: second\n.",
            "ray.exceptions.RuntimeEnvSetupError: second",
        ),
        (
            "Request failed with status code 404: Job a does not exist.",
            "Request failed with status code 404: Job a does not exist.",
        ),
        ("No available agent\n.", "No available agent"),
        ("", "RuntimeError"),
    ],
)
def test_the_last_error_of_what_rays_server_says_is_told(text: str, line: str) -> None:
    assert reason(RuntimeError(text)) == line


def test_the_limit_is_the_one_of_the_job_server() -> None:
    assert package_limit() == 100 * 2**20  # Ray 2.60's
