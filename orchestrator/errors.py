"""Errors that are the user's to mend; the command line prints their message and exits with 2."""

from __future__ import annotations


class UserError(ValueError):
    """Something the user gave is wrong.

    Args:
        message: what is wrong and what to change.
        location: the setting in the sweep's file, where the message does not name its line itself.
    """

    def __init__(self, message: str, location: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.location = location


class NotFoundError(UserError):
    """What the user named does not exist."""
