"""Where a Ray cluster answers, and whether it does: asked within seconds, for Ray's own client waits."""

from __future__ import annotations

import json
import os
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from importlib.metadata import version
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from orchestrator.errors import UserError
from orchestrator.ray_token import Token, no_token, redirected, wrong_token

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
"""What Ray reads, the first one first."""
_TIMEOUT_S = 10.0
_CLIENT_PORT = 10001
_VERSION = "/api/version"


class Address(NamedTuple):
    """Where a cluster is.

    Attributes:
        text: the URL of its dashboard, or another address that Ray knows.
        name: as messages tell it, with what gave it.
    """

    text: str
    name: str

    @property
    def is_url(self) -> bool:
        """Whether it is a dashboard's."""
        return self.text.startswith(("http://", "https://"))


def address_of(given: str | None, environment: Mapping[str, str]) -> Address:
    """The address of a cluster: the option's, what Ray reads, this machine's dashboard.

    Raises:
        UserError: the option's is none of a dashboard; what Ray reads may be another one of the cluster.
    """
    if given is not None:
        address = Address(given.rstrip("/"), f"--address {given.rstrip('/')}")
        if not address.is_url:
            raise UserError(
                f"--address: {given} is not the address of a Ray dashboard; write http://HEAD:8265"
            )
        return address
    for variable in VARIABLES:
        if text := environment.get(variable, "").rstrip("/"):
            return Address(text, f"{variable}={text}")
    return Address(DEFAULT_ADDRESS, f"{DEFAULT_ADDRESS}, since no --address was given")


def require_listener(address: Address) -> None:
    """Connects to a cluster's own address, not a dashboard's; Ray would try for most of a minute.

    Raises:
        UserError: nothing listens there.
        OSError: Ray finds none on this machine.
        ValueError: it is none that Ray knows.
    """
    place = address.text
    if "://" not in place:
        from ray._private.services import canonicalize_bootstrap_address_or_die

        place = f"ray://{canonicalize_bootstrap_address_or_die(place)}"
    parts = urlsplit(place)
    if parts.scheme != "ray":
        return  # of another launcher, which Ray asks
    try:
        there = parts.hostname or "", parts.port or _CLIENT_PORT
        socket.create_connection(there, timeout=_TIMEOUT_S).close()
    except OSError as error:
        raise UserError(
            f"{address.name}: no answer from there ({error.strerror or error}); start the cluster, or "
            "name its dashboard by --address http://HEAD:8265"
        ) from None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Takes a redirect for the answer that it is, since the token is for one server alone."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def require_ray(address: Address, token: Token | None) -> None:
    """Asks a dashboard for the version, with a time limit.

    Args:
        address: of the dashboard.
        token: to be told to it.

    Raises:
        UserError: nobody answers there, or it is no Ray, or of another version, or refuses the token.
    """
    name, url = address.name, f"{address.text}{_VERSION}"
    headers = {"Authorization": f"Bearer {token.text}"} if token else {}
    try:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - http(s) only
        with urllib.request.build_opener(_NoRedirects).open(request, timeout=_TIMEOUT_S) as response:
            theirs = _ray_version(response.read(2**16))
    except urllib.error.HTTPError as error:
        error.close()
        raise _refusal(error, address, token) from None
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        if isinstance(error, HTTPException) and not isinstance(error, OSError):
            raise UserError(
                f"{name}: what answers there does not speak HTTP; give the dashboard's address, such as "
                "http://HEAD:8265"
            ) from None
        raise UserError(
            f"{name}: no answer from there ({reason}); start the cluster, or lead its port 8265 here, "
            "such as by `ray dashboard` or `kubectl port-forward`"
        ) from None
    if theirs is None:
        text = f"{name}: what answers there is not the dashboard of a Ray cluster"
        raise UserError(f"{text}; give its address, such as http://HEAD:8265")
    if theirs != (ours := version("ray")):
        raise UserError(
            f"{name}: the cluster runs Ray {theirs}, and this is Ray {ours}; use the same one on both"
        )


def _refusal(error: urllib.error.HTTPError, address: Address, token: Token | None) -> UserError:
    """What an answer that is no version means."""
    name = address.name
    if error.code == 403 and token:
        return wrong_token(name, token)
    if error.code in (401, 403):
        return no_token(name, os.environ)
    if error.code < 400 and (target := error.headers.get("Location")):
        return redirected(name, error.url, target, _VERSION)
    text = f"{name}: it answers {error.code}, so it is not the dashboard of a Ray cluster"
    return UserError(f"{text}; give its address, such as http://HEAD:8265")


def _ray_version(answer: bytes) -> str | None:
    """The version that a dashboard tells; None where it is none."""
    try:
        found = json.loads(answer)
    except ValueError:
        return None
    return found.get("ray_version") if isinstance(found, dict) else None
