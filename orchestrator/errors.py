"""Errors that are the user's to mend; the command line prints their message and exits with 2."""

from __future__ import annotations


class UserError(ValueError):
    """Something the user gave is wrong. The message says what, where, and what to change."""
