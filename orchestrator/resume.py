"""What a resume starts from: the events of the sweep, and whether its file and its data may still be
used. Pure but for reading the ledger.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel

from orchestrator.environment import DATA_DIGEST
from orchestrator.errors import UserError
from orchestrator.events import Event, SweepResumed, SweepStarted, TrialImported
from orchestrator.lease import Lease
from orchestrator.ledger import Ledger, read_ledger
from orchestrator.ledger_copy import fetch, is_copied
from orchestrator.paths import SweepPaths
from orchestrator.settings import SweepSettings
from orchestrator.storage_check import look_at
from trainables.places import is_url


class Plan(NamedTuple):
    """What a driver is to run.

    Attributes:
        settings: the sweep's.
        name: the sweep's.
        paths: its folder.
        history: the events of earlier drivers; empty for a new sweep.
        imports: what a new sweep takes from earlier ones.
        lease: of the sweep, taken, where its storage is a URL.
    """

    settings: SweepSettings
    name: str
    paths: SweepPaths
    history: Sequence[Event] = ()
    imports: Sequence[TrialImported] = ()
    lease: Lease | None = None


BUDGETS = (
    "search.trials",
    "search.time_budget",
    "search.epochs",
    "search.stall",
    "search.stall.trials",
    "confirm.seeds",
)
"""The settings that may grow between two drivers of a sweep; None is no limit."""
FREE = (
    "storage",
    "checkpoint_every",
    "max_retries",
    "trial_timeout",
    "evaluation.timeout",
    "evaluation.cpus",
    "evaluation.gpus",
    "pick",
    "resources.wait_for_nodes",
)
"""The settings that may change in any way, since no trial and no proposal depends on them; a `pick` that
names the baseline keeps that one from being stopped early from here on.
"""


def find_sweep(name: str, storage: str, option: str = "--resume") -> SweepPaths:
    """The folder of a sweep, given by name or by its own path or URL.

    Args:
        name: or path, or URL.
        storage: where names are looked for.
        option: of the command line that gave the name, for the message.

    Raises:
        UserError: there is no such sweep.
    """
    candidates = candidate_folders(name, storage)
    for paths in candidates:
        if is_there(paths):
            return paths
    places = " or ".join(str(paths.place) for paths in candidates[: 1 if "/" not in name else 2])
    raise UserError(f"{option}: there is no such sweep in {places}; name one, or the path of its folder")


def candidate_folders(name: str, storage: str) -> list[SweepPaths]:
    """Where a sweep may be that is given by name or by its own path or URL; the latter comes last."""
    return [SweepPaths.at(name)] if is_url(name) else [SweepPaths.of(storage, name), SweepPaths.at(name)]


def is_there(paths: SweepPaths) -> bool:
    """Whether a sweep is there; what of it is at a URL alone is fetched.

    Raises:
        UserError: the store cannot be read.
    """
    if paths.url and is_copied(look_at(paths.url)):
        fetch(paths)
    return paths.ledger.is_file()


def read_history(paths: SweepPaths) -> list[Event]:
    """All events of a sweep; none where its driver was killed before the first.

    Raises:
        UserError: the ledger is damaged, or a driver is at work on it.
    """
    require_idle(paths)
    return list(read_ledger(paths.ledger))


def require_idle(paths: SweepPaths) -> None:
    """Checks that no driver of this machine works on a sweep.

    Raises:
        UserError: one does.
    """
    Ledger(paths.ledger).close()


def require_imports(history: list[Event], paths: SweepPaths) -> None:
    """Checks that the first driver lived to write down all that the sweep imports.

    Raises:
        UserError: it did not, so nothing had been trained either.
    """
    num_expected = sum(event.num_imported for event in history if isinstance(event, SweepStarted))
    num_imported = sum(isinstance(event, TrialImported) for event in history)
    if num_imported < num_expected:
        raise UserError(
            f"--resume: the sweep was killed while it imported, with {num_imported} of {num_expected} "
            f"trials written and none trained; remove {paths.place} and start it again"
        )


def settings_of(history: list[Event]) -> dict[str, Any]:
    """The settings that the sweep's latest driver worked by."""
    latest = [event for event in history if isinstance(event, (SweepStarted, SweepResumed))][-1]
    return latest.settings


def require_same(history: list[Event], settings: SweepSettings) -> None:
    """Checks that nothing but budgets and what is free differs, and that budgets only grew.

    A confirmation may be added.

    Raises:
        UserError: the message lists every other difference.
    """
    before, now = with_defaults(settings_of(history)), settings.model_dump(mode="json")
    lines = [
        f"  {name}: {_text(old)} before, {_text(new)} now"
        for name, old, new in differences(before, now)
        if name not in FREE
        and not (name in BUDGETS and _grew(old, new))
        and not (name == "confirm" and old in (None, _ABSENT))
    ]
    if lines:
        text = "--resume: the sweep was started with other settings, and only its budgets may grow:"
        raise UserError("\n".join([text, *lines, "undo this, or start a new sweep"]))


def require_same_data(name: str, history: Sequence[Event], environment: Mapping[str, str]) -> None:
    """Checks that the data are those of the earlier drivers, as far as these wrote digests.

    Args:
        name: the sweep's.
        history: its events.
        environment: what the environment of this driver's first event will say of the data.

    Raises:
        UserError: the message lists all data that changed.
    """
    before: dict[str, str] = {}
    for event in history:
        if isinstance(event, (SweepStarted, SweepResumed)):
            before |= event.environment
    lines = [
        f"  {key.removeprefix(DATA_DIGEST)}: digest {before[key]} before, {digest} now"
        for key, digest in environment.items()
        if key.startswith(DATA_DIGEST) and before.get(key, digest) != digest
    ]
    if lines:
        text = "--resume: the data changed since the sweep was started:"
        advice = (
            "trials on both would stand in one front; put the data back, with the tokeniser where they "
            f"are sentences, or start a new sweep, with --import {name} only where its trials compare "
            "with those on the new data"
        )
        raise UserError("\n".join([text, *lines, advice]))


def with_defaults(before: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they were stored, with the defaults of those that came into the language since."""
    defaults = SweepSettings(name="defaults", search_space={}).model_dump(mode="json")
    return _filled(before, defaults, SweepSettings)


def _filled(
    given: Mapping[str, Any], defaults: Mapping[str, Any], model: type[BaseModel]
) -> dict[str, Any]:
    """Fills groups of settings, and no mapping whose keys are the user's."""
    filled = {**defaults, **given}
    for name, info in model.model_fields.items():
        group = info.annotation
        if isinstance(group, type) and issubclass(group, BaseModel):
            filled[name] = _filled(filled[name], defaults[name], group)
    return filled


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
