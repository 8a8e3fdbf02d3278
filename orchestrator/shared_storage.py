"""What a driver does beside its own folder where its storage is a URL: the ledger's copy, removals and
the lease. Where the storage is a path nothing is copied, and what is to be done is done at once.
"""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.lease import Lease
from orchestrator.ledger_copy import LedgerCopy
from orchestrator.operation_queue import Operation, OperationQueue
from orchestrator.paths import SweepPaths


class SharedStorage:
    """The storage of one sweep, as its driver uses it.

    Args:
        paths: of the sweep.
        lease: of the sweep, taken; None where nobody asks for one.

    Attributes:
        num_not_copied: events that the ledger's copy lacks, once it is closed.
        num_not_removed: removals that were not done, once it is closed; a resume does them.
    """

    def __init__(self, paths: SweepPaths, lease: Lease | None) -> None:
        self.num_not_copied = self.num_not_removed = 0
        self._lease = lease
        self._copy = LedgerCopy(paths, self.require_mine) if paths.url else None
        self._removals = OperationQueue(paths.url, self._copy.held_back) if self._copy else None

    def start(self) -> None:
        """Copies what the driver's folder holds, and goes on from then on.

        Raises:
            OSError: the store does not take it.
        """
        if self._lease:
            self._lease.remember()
        if self._copy:
            self._copy.start()

    @property
    def held_back(self) -> Callable[[Operation], Operation]:
        """Makes operations wait until what the ledger holds now is copied: what is told to others and
        what is removed must not be ahead of what a driver on another machine would go on from.
        """
        return self._copy.held_back if self._copy else _as_it_is

    def put(self, removal: Operation) -> None:
        """Has a removal done: at once, or, in order and once the ledger is copied, on a thread."""
        if self._removals is None:
            removal()
            return

        def as_long_as_it_is_mine() -> None:
            self.require_mine()
            removal()

        self._removals.put(as_long_as_it_is_mine)

    def require_not_lost(self) -> None:
        """Raises an OSError where a driver on another machine is known to have it; asks no store."""
        if self._lease:
            self._lease.require_not_lost()

    def require_mine(self) -> None:
        """Raises an OSError unless it is certain that no other driver works on the sweep."""
        if self._lease:
            self._lease.require_mine()

    def flush(self, patience_s: float) -> bool:
        """Waits for the ledger's copy, up to `patience_s` without progress; whether it is whole."""
        return not self._copy or (not self._is_lost and self._copy.flush(patience_s))

    def close(self, patience_s: float) -> None:
        """Ends the work, with as much patience for what is left of it."""
        if not self._removals or not self._copy:
            return
        if self._is_lost:  # who took it over copies and removes
            self._removals.close(0)
            self._copy.close(0)
            return
        self.num_not_removed = self._removals.close(patience_s) + self._removals.num_refused
        self.num_not_copied = self._copy.close(patience_s)

    @property
    def _is_lost(self) -> bool:
        return self._lease is not None and self._lease.is_lost


def _as_it_is(operation: Operation) -> Operation:
    return operation
