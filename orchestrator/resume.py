"""What a resume starts from: the events of the sweep, and whether its file may still be used. Pure but
for reading the ledger.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator.errors import UserError
from orchestrator.events import Event, SweepResumed, SweepStarted
from orchestrator.ledger import Ledger, read_ledger
from orchestrator.paths import SweepPaths
from orchestrator.settings import SweepSettings


class Plan(NamedTuple):
    """What a driver is to run.

    Attributes:
        settings: the sweep's.
        name: the sweep's.
        paths: its folder.
        history: the events of earlier drivers; empty for a new sweep.
    """

    settings: SweepSettings
    name: str
    paths: SweepPaths
    history: Sequence[Event] = ()


BUDGETS = (
    "search.trials",
    "search.time_budget",
    "search.epochs",
    "search.stall",
    "search.stall.trials",
    "confirm.seeds",
)
"""The settings that may grow between two drivers of a sweep; None is no limit."""
_FREE = ("storage", "pick")
"""The settings that nothing of the search depends on."""


def find_sweep(name: str, storage: str) -> SweepPaths:
    """The folder of a sweep, given by name or by its own path.

    Raises:
        UserError: there is no such sweep.
    """
    candidates = [SweepPaths.of(storage, name), SweepPaths(Path(name).expanduser().absolute())]
    for paths in candidates:
        if paths.ledger.is_file():
            return paths
    places = " or ".join(str(paths.root) for paths in candidates[: 1 if "/" not in name else 2])
    raise UserError(f"--resume: there is no sweep in {places}; name one, or the path of its folder")


def read_history(paths: SweepPaths) -> list[Event]:
    """All events of a sweep; none where its driver was killed before the first.

    Raises:
        UserError: the ledger is damaged, or a driver is at work on it.
    """
    Ledger(paths.ledger).close()
    return list(read_ledger(paths.ledger))


def settings_of(history: list[Event]) -> dict[str, Any]:
    """The settings that the sweep's latest driver worked by."""
    latest = [event for event in history if isinstance(event, (SweepStarted, SweepResumed))][-1]
    return latest.settings


def require_same(history: list[Event], settings: SweepSettings) -> None:
    """Checks that nothing but budgets differs, and that these only grew; `confirm` may be added.

    Raises:
        UserError: the message lists every other difference.
    """
    before, now = settings_of(history), settings.model_dump(mode="json")
    lines = [
        f"  {name}: {_text(old)} before, {_text(new)} now"
        for name, old, new in differences(before, now)
        if name not in _FREE
        and not (name in BUDGETS and _grew(old, new))
        and not (name == "confirm" and old in (None, _ABSENT))
    ]
    if lines:
        text = "--resume: the sweep was started with other settings, and only its budgets may grow:"
        raise UserError("\n".join([text, *lines, "undo this, or start a new sweep"]))


_ABSENT = object()


def differences(
    before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Dotted name, old and new value of every setting that differs."""
    for name in dict.fromkeys([*before, *now]):
        old, new = before.get(name, _ABSENT), now.get(name, _ABSENT)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from differences(old, new, f"{prefix}{name}.")
        elif old != new:
            yield f"{prefix}{name}", old, new


def _grew(old: Any, new: Any) -> bool:
    return new is None or (old is not None and new >= old)


def _text(value: Any) -> str:
    return "not there" if value is _ABSENT else repr(value)
