"""The token by which a Ray cluster is joined, found as Ray itself finds it. Does not import ray."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urljoin

from orchestrator.errors import UserError

_MODE, _TOKEN = "RAY_AUTH_MODE", "token"
ADVICE = (
    "set RAY_AUTH_TOKEN to it, or RAY_AUTH_TOKEN_PATH to a file that holds it, or write it to "
    "~/.ray/auth_token (`ray get-auth-token` shows it on the machine that has it)"
)
"""How a token is given."""


class Token(NamedTuple):
    """A token, which must not be printed.

    Attributes:
        text: the secret.
        source: what it was read from, which may be printed.
    """

    text: str
    source: str


def find_token(environment: Mapping[str, str], home: Path) -> Token | None:
    """The token that Ray uses in this environment; None where there is none, or it is switched off.

    Raises:
        UserError: RAY_AUTH_TOKEN_PATH names nothing that can be read.
    """
    if environment.get(_MODE, _TOKEN).lower() != _TOKEN:
        return None
    if text := environment.get("RAY_AUTH_TOKEN", "").strip():
        return Token(text, "RAY_AUTH_TOKEN")
    if path := environment.get("RAY_AUTH_TOKEN_PATH"):
        if text := _read(Path(path)):
            return Token(text, f"RAY_AUTH_TOKEN_PATH, {path}")
        raise UserError(f"RAY_AUTH_TOKEN_PATH: {path} holds no token, or cannot be read; {ADVICE}")
    default = home / ".ray" / "auth_token"
    text = _read(default)
    return Token(text, str(default)) if text else None


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def no_token(option: str, environment: Mapping[str, str]) -> UserError:
    """The cluster asks for a token, and there is none, or it is switched off."""
    mode = environment.get(_MODE, _TOKEN)
    if mode.lower() != _TOKEN:
        return UserError(
            f"{option}: the cluster asks for a token, and {_MODE}={mode} keeps it; set it to token"
        )
    return UserError(f"{option}: the cluster asks for a token, and none was found; {ADVICE}")


def wrong_token(option: str, token: Token) -> UserError:
    """The cluster does not take the token."""
    return UserError(f"{option}: the cluster refuses the token of {token.source}; {ADVICE}")


def redirected(option: str, url: str, target: str, endpoint: str) -> UserError:
    """The server names another one, which the token is not sent to.

    Args:
        option: that gave the address.
        url: that was asked for.
        target: where it leads, as the server says it.
        endpoint: how the URL ended after the server's address.
    """
    place = urljoin(url, target).partition("?")[0].removesuffix(endpoint).rstrip("/")
    return UserError(f"{option}: it redirects to {place}; give that address")
