"""Answers before Ray starts whether a storage that is a URL can be used, with what to change."""

from __future__ import annotations

from orchestrator.errors import UserError
from orchestrator.tracking_check import holds_password
from trainables.places import list_files

_NOT_SHARED = ("memory", "local", "data")


def look_at(url: str) -> list[str]:
    """The names of all that is at the URL of a sweep; makes nothing.

    Raises:
        UserError: its store is none that can be used, or does not answer.
    """
    try:
        _check(url)
        return list_files(url, is_patient=False)
    except FileNotFoundError as error:
        text = f"storage: {url}: {error}; make it, or set storage to one that exists"
    except OSError as error:
        text = f"storage: {error}; see that the store runs and that your credentials may use it"
    except UserError as error:
        text = str(error)
    raise UserError(text, location=("storage",))


def refuse_password(url: str, word: str = "storage") -> None:
    """Checks that the URL of a place in a store holds no password.

    Args:
        url: of the place.
        word: what gave it: the setting, or an option.

    Raises:
        UserError: it does.
    """
    if holds_password(url):
        raise UserError(
            f"{word} holds a password, which would be written to many places; give it by the "
            "environment, for S3 as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            location=("storage",) if word == "storage" else (),
        )


def _check(url: str) -> None:
    protocol = url.partition("://")[0]
    refuse_password(url)
    from fsspec import available_protocols, get_filesystem_class
    from fsspec.registry import known_implementations

    if protocol not in available_protocols() or protocol in _NOT_SHARED:
        raise UserError(
            f"storage: {protocol}:// is not the URL of a store that all nodes can share; write a path, "
            "or a URL such as s3://BUCKET/PREFIX"
        )
    try:
        get_filesystem_class(protocol)
    except ImportError as error:
        package = known_implementations[protocol]["class"].partition(".")[0]
        advice = str(error) if package == "fsspec" else f"pip install {package}"
        raise UserError(f"storage: {protocol}:// needs a package that is not here: {advice}") from None
