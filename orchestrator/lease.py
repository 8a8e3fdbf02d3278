"""One driver at a time works on a sweep at a URL: an object there says which, as long as it is renewed.

A lock of the driver's folder is seen on its own machine alone.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from orchestrator.errors import UserError
from orchestrator.paths import SweepPaths
from trainables.places import StoreError, create_object, read_object, remove_object, write_object

logger = logging.getLogger(__name__)

RENEWED_EVERY_S = 5.0
EXPIRES_S = 30.0
"""After so long without a sign of life another machine's driver may take the sweep over; the machines'
clocks may differ by less than this."""

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class LeaseLostError(OSError):
    """Another driver took the sweep over."""


class Lease:
    """A sweep's lease, held by this process while the context is open.

    Args:
        paths: the sweep's, with a URL; no other process of this machine works on it.
    """

    def __init__(self, paths: SweepPaths) -> None:
        self._paths = paths
        self._id = uuid.uuid4().hex
        self._closing = threading.Event()
        self._lost_to = ""
        self._renewing = threading.Lock()
        self._renewed_at = -math.inf
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    def __enter__(self) -> Lease:
        """Takes the lease.

        Raises:
            UserError: another machine's driver has it, or the store does not take it.
        """
        try:
            self._take()
        except OSError as error:
            raise UserError(
                f"storage: {error}; see that it exists and that your credentials may write there",
                location=("storage",),
            ) from error
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join(RENEWED_EVERY_S)
        try:
            if _read(self._paths).get("id") == self._id:
                remove_object(_object(self._paths))
            self._paths.lease.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("the lease stays until it expires: %s", error)

    @property
    def is_lost(self) -> bool:
        """Whether another driver is known to have it."""
        return bool(self._lost_to)

    def require_not_lost(self) -> None:
        """Raises a LeaseLostError where another driver is known to have it; asks no store."""
        if self._lost_to:
            raise LeaseLostError(f"{self._paths.url}: {self._lost_to} took the sweep over")

    def require_mine(self) -> None:
        """Raises an OSError unless it is certain that no other driver has it.

        Whoever was not heard of for long asks the store first.
        """
        self.require_not_lost()
        if _now() - self._renewed_at > EXPIRES_S / 2:
            self._renew()

    def _take(self) -> None:
        try:
            create_object(_object(self._paths), self._content())
        except FileExistsError:
            holder = _read(self._paths)
            if holder.get("id") not in (self._id, _last_of_this_machine(self._paths)):
                _require_expired(self._paths, holder)
            write_object(_object(self._paths), self._content(), is_patient=False)
        self._renewed_at = _now()
        if self._paths.root.is_dir():
            self.remember()

    def remember(self) -> None:
        """Notes the lease in the driver's folder: a next driver there need not wait for its end."""
        self._paths.lease.write_bytes(self._content())

    def _content(self) -> bytes:
        fields = {"id": self._id, "host": socket.gethostname(), "pid": os.getpid()}
        return json.dumps({**fields, "renewed": time.time()}).encode()

    def _run(self) -> None:
        while not self._closing.wait(RENEWED_EVERY_S):
            try:
                self._renew()
            except LeaseLostError as error:
                logger.error("%s", error)
                return
            except OSError as error:
                logger.warning("the lease is not renewed: %s", error)

    def _renew(self) -> None:
        with self._renewing:
            begun = _now()
            try:
                holder = _content(self._paths)
            except ValueError as error:
                raise StoreError(f"{_object(self._paths)} is no lease: {error}") from error
            if holder is None:  # nobody else removes it
                self._lost_to = "another driver, which has ended since,"
            elif holder.get("id") != self._id:
                self._lost_to = f"a driver on {holder.get('host')}"
            self.require_not_lost()
            write_object(_object(self._paths), self._content(), is_patient=False)
            self._renewed_at = begun


def await_expiry(paths: SweepPaths, tell: Callable[[str], None]) -> None:
    """Waits for the end of a lease that another machine's driver renews no more.

    Args:
        paths: the sweep's, with a URL.
        tell: is given a sentence where there is something to wait for.

    Raises:
        UserError: the lease is renewed meanwhile.
    """
    with contextlib.suppress(OSError):  # whoever takes the lease tells of the store
        holder = latest = _read(paths)
        if holder.get("id") == _last_of_this_machine(paths):
            return
        if left_s := _left_s(holder):
            sign = _last_sign(paths, holder, "worked")
            tell(f"{sign}; waiting up to {left_s:.0f} s for another sign of it")
        while latest == holder and (left_s := _left_s(holder)):
            time.sleep(min(left_s, RENEWED_EVERY_S))
            latest = _read(paths)
        if latest != holder:
            _require_expired(paths, latest)


def _object(paths: SweepPaths) -> str:
    return paths.at_url(paths.lease)


def _now() -> float:
    """Seconds that only grow, also while the machine sleeps where the system tells that."""
    return time.clock_gettime(_CLOCK)


def _content(paths: SweepPaths) -> dict[str, Any] | None:
    """What the object says; None where there is none.

    Raises:
        ValueError: it is no lease.
        OSError: the store does not tell.
    """
    try:
        return json.loads(read_object(_object(paths), is_patient=False))
    except FileNotFoundError:
        return None


def _read(paths: SweepPaths) -> dict[str, Any]:
    """The same for who may take it over: empty where nobody is known to have it."""
    try:
        return _content(paths) or {}
    except ValueError:
        return {}


def _last_of_this_machine(paths: SweepPaths) -> str:
    """The id of the last driver with this folder; it is over, since nobody has the ledger locked."""
    try:
        return json.loads(paths.lease.read_bytes())["id"]
    except (OSError, ValueError, KeyError):
        return ""


def _require_expired(paths: SweepPaths, holder: dict[str, Any]) -> None:
    if left_s := _left_s(holder):
        raise UserError(
            f"{_last_sign(paths, holder, 'works')}; end it first, or, where it is dead, "
            f"try again in {left_s:.0f} s"
        )


def _last_sign(paths: SweepPaths, holder: dict[str, Any], verb: str) -> str:
    return (
        f"{paths.url}: a driver on {holder.get('host')} (process {holder.get('pid')}) {verb} on this "
        f"sweep, last heard of {max(0.0, EXPIRES_S - _left_s(holder)):.0f} s ago"
    )


def _left_s(holder: dict[str, Any]) -> float:
    """How long a lease still holds without a further sign of life."""
    silent_s = time.time() - float(holder.get("renewed", 0))
    return EXPIRES_S - silent_s if abs(silent_s) < EXPIRES_S else 0.0
