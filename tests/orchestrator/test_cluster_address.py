from __future__ import annotations

import socket
import threading

import pytest
from fake_dashboard import OURS, VERSION, Said, serving

from orchestrator.cluster_address import (
    DEFAULT_ADDRESS,
    Address,
    address_of,
    require_listener,
    require_ray,
)
from orchestrator.errors import UserError
from orchestrator.ray_token import Token

TOKEN = Token("s3cret", "RAY_AUTH_TOKEN")


@pytest.fixture(autouse=True)
def without_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_the_option_goes_before_what_ray_reads() -> None:
    both = {"RAY_API_SERVER_ADDRESS": "http://a:1/", "RAY_ADDRESS": "http://b:1"}
    assert address_of("https://c:1/", both) == ("https://c:1", "--address https://c:1")
    assert address_of(None, both) == ("http://a:1", "RAY_API_SERVER_ADDRESS=http://a:1")
    cluster = address_of(None, {"RAY_ADDRESS": "127.0.0.1:6379"})
    assert cluster == ("127.0.0.1:6379", "RAY_ADDRESS=127.0.0.1:6379")
    assert not cluster.is_url
    usual = address_of(None, {"RAY_ADDRESS": ""})
    assert usual == (DEFAULT_ADDRESS, f"{DEFAULT_ADDRESS}, since no --address was given")


@pytest.mark.parametrize("given", ["head:6379", "auto", "ray://head:10001", "file:///etc/passwd"])
def test_what_is_no_dashboard_is_refused(given: str) -> None:
    with pytest.raises(UserError, match=f"--address: {given} is not the address of a Ray dashboard"):
        address_of(given, {})


@pytest.mark.slow
@pytest.mark.parametrize("token", [None, TOKEN])
def test_a_cluster_of_this_version_is_accepted(token: Token | None) -> None:
    with serving({VERSION: OURS}) as dashboard:
        require_ray(address_of(dashboard.url, {}), token)
    assert dashboard.seen == [(VERSION, "Bearer s3cret" if token else None)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("said", "token", "message"),
    [
        (Said(401), None, "the cluster asks for a token, and none was found; set RAY_AUTH_TOKEN"),
        (Said(403), TOKEN, "the cluster refuses the token of RAY_AUTH_TOKEN"),
        (Said(403), None, "the cluster asks for a token"),
        (Said(404), None, "it answers 404, so it is not the dashboard of a Ray cluster"),
        (Said(500), None, "it answers 500, so it is not"),
        (Said(302), None, "it answers 302, so it is not"),
        (Said(200, b"<html>"), None, "what answers there is not the dashboard of a Ray cluster"),
        (Said(200, b"[1]"), None, "what answers there is not the dashboard of a Ray cluster"),
        (
            Said(200, b'{"ray_version": "2.40.0"}'),
            None,
            r"the cluster runs Ray 2\.40\.0, and this is Ray 2\.",
        ),
    ],
)
def test_what_cannot_take_the_job_is_said(said: Said, token: Token | None, message: str) -> None:
    with serving({VERSION: said}) as dashboard, pytest.raises(UserError, match=message) as caught:
        require_ray(address_of(dashboard.url, {}), token)
    assert str(caught.value).startswith(f"--address {dashboard.url}: ")
    assert "s3cret" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_the_token_is_sent_to_nobody_whom_the_address_redirects_to(code: int) -> None:
    with serving({VERSION: OURS}) as other:
        redirect = Said(code, target=f"{other.url}{VERSION}?from=here")
        with serving({VERSION: redirect}) as dashboard, pytest.raises(UserError) as caught:
            require_ray(address_of(dashboard.url, {}), TOKEN)
    assert str(caught.value) == (
        f"--address {dashboard.url}: it redirects to {other.url}; give that address"
    )
    assert other.seen == []


def test_where_nobody_listens_is_said() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        with pytest.raises(UserError, match=f"--address {url}: no answer from there .*refused"):
            require_ray(address_of(url, {}), None)
        with pytest.raises(UserError, match=r"a name: no answer from there .*refused.*HEAD:8265"):
            require_listener(Address(f"ray://127.0.0.1:{port}", "a name"))


@pytest.mark.parametrize("text", ["127.0.0.1:{port}", "ray://127.0.0.1:{port}"])
def test_a_cluster_that_listens_is_left_to_ray(text: str) -> None:
    with socket.create_server(("", 0)) as server:
        require_listener(Address(text.format(port=server.getsockname()[1]), "a name"))


def test_what_is_no_address_of_ray_itself_is_left_to_it() -> None:
    require_listener(Address("launcher://cluster", "a name"))


@pytest.mark.slow
def test_a_server_of_another_protocol_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(2**16)
                connection.sendall(b"\x00\x00\x12\x04\x00\x00\xff\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        address = address_of(f"http://127.0.0.1:{server.getsockname()[1]}", {})
        with pytest.raises(UserError, match=r"what answers there does not speak HTTP; give the dash"):
            require_ray(address, None)
        thread.join()
