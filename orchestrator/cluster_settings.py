"""What a sweep's settings must not say where its driver runs on a cluster's head: there the working
directory is a temporary one, and the files of this machine are not there. Pure but for the look at
paths that the settings name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from orchestrator import storage_check
from orchestrator.errors import UserError
from orchestrator.local_files import with_absolute_paths
from orchestrator.resume import differences
from orchestrator.settings import SweepSettings
from orchestrator.tracking_check import refuse_password

_SQLITE = "sqlite:///"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def require_remote(settings: SweepSettings) -> None:
    """Checks that every place in the settings means the same on the head.

    Raises:
        UserError: one does not; the message says what to write.
    """
    refuse_password(settings.tracking.uri)
    require_remote_storage(settings.storage)
    uri = settings.tracking.uri
    if uri.startswith(_SQLITE) and not uri.removeprefix(_SQLITE).startswith("/"):
        raise UserError(
            f"tracking.uri: {uri} is relative, which on a cluster is a temporary directory of Ray; "
            "write http://HOST:PORT, a server that the head reaches, or sqlite:////SHARED/mlflow.db, "
            "a file that the head has",
            location=("tracking", "uri"),
        )
    for name, path in _relative_paths(settings):
        group, _, rest = name.partition(".")
        raise UserError(
            f"{name}: {path} is relative, which on a cluster is a temporary directory of Ray; write an "
            "absolute path that every node has, or a hub id",
            location=(group, *rest.split(".")),
        )


def require_remote_storage(storage: str) -> None:
    """Checks that a storage is not relative, and no secret.

    Raises:
        UserError: it is.
    """
    storage_check.refuse_password(storage)
    if "://" not in storage and not _is_absolute(storage):
        raise UserError(
            f"storage: {storage} is relative, which on a cluster is a temporary directory of Ray; write "
            "an absolute path that all nodes share, such as /mnt/shared/runs, or a URL such as "
            "s3://BUCKET/runs",
            location=("storage",),
        )


def _is_absolute(path: str) -> bool:
    return path.startswith(("/", "~"))


def _relative_paths(settings: SweepSettings) -> Iterator[tuple[str, str]]:
    """Setting and value of each relative path: those that would be another word as an absolute one."""
    absolute = with_absolute_paths(settings, must_exist=False)
    before, after = settings.model_dump(mode="json"), absolute.model_dump(mode="json")
    for name, old, new in differences(before, after):
        changed = dict.fromkeys(text for text in _texts(old) if text not in set(_texts(new)))
        yield from ((name, text) for text in changed if not _is_absolute(text))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)


def warnings(settings: SweepSettings, address: str) -> list[str]:
    """What is likely a mistake, and may be none.

    Args:
        settings: the sweep's.
        address: of the cluster's dashboard.
    """
    uri = settings.tracking.uri
    if uri.startswith("http") and _is_loopback(uri) and not _is_loopback(address):
        return [
            f"tracking.uri: {uri} is this machine here and the head itself there; the sweep looks for "
            "the server on the head"
        ]
    return []


def _is_loopback(url: str) -> bool:
    return urlsplit(url).hostname in _LOOPBACK
