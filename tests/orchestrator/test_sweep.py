from __future__ import annotations

import argparse
import contextlib
from pathlib import Path

import pytest
from lease_clock import Clock
from stores import URL, MemoryStore
from sweep_events import settings_of, started

from orchestrator import lease, storage_check
from orchestrator.command_line import parse
from orchestrator.errors import UserError
from orchestrator.events import SweepStarted
from orchestrator.lease import Lease
from orchestrator.ledger import Ledger
from orchestrator.paths import SweepPaths
from orchestrator.resume import Plan
from orchestrator.settings import SweepSettings
from orchestrator.sweep import _plan


def plan_of(options: argparse.Namespace, settings: SweepSettings) -> Plan:
    with contextlib.ExitStack() as held:
        return _plan(options, settings, held)


@pytest.fixture
def settings(tmp_path: Path) -> SweepSettings:
    return settings_of(storage=str(tmp_path))


def options(*more: str) -> argparse.Namespace:
    return parse(["a.yaml", "--name", "a", "--or-resume", *more])


def begin(settings: SweepSettings) -> SweepPaths:
    """What a driver left that began with these settings."""
    paths = SweepPaths.of(settings.storage, "a")
    paths.root.mkdir()
    ledger = Ledger(paths.ledger)
    ledger.append(SweepStarted("a", settings.model_dump(mode="json"), {}, 0.0, "id"))
    ledger.append(started("trial-0000"))
    ledger.close()
    return paths


def test_a_sweep_that_was_not_begun_is_begun(settings: SweepSettings) -> None:
    plan = plan_of(options(), settings)
    assert (plan.name, plan.history) == ("a", ())


def test_a_sweep_that_was_begun_goes_on(settings: SweepSettings) -> None:
    paths = begin(settings)
    plan = plan_of(options("--import", "gone meanwhile"), settings)
    assert (plan.name, plan.paths, len(plan.history)) == ("a", paths, 2)
    with pytest.raises(UserError, match="already holds a sweep"):
        plan_of(parse(["a.yaml", "--name", "a"]), settings)


def test_it_goes_on_only_as_the_same_sweep(settings: SweepSettings) -> None:
    begin(settings)
    more = settings.model_copy(update={"search": settings.search.model_copy(update={"trials": 99})})
    assert len(plan_of(options(), more).history) == 2
    with pytest.raises(UserError, match="the sweep was started with other settings"):
        plan_of(options(), settings.model_copy(update={"objectives": {"d_eff": "min"}}))


@pytest.fixture
def lost_head(memory: MemoryStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SweepSettings:
    """The settings of a sweep at a URL whose driver was lost with its machine a moment ago."""
    monkeypatch.setattr(storage_check, "_NOT_SHARED", ())
    monkeypatch.setattr(lease, "time", Clock())
    monkeypatch.setenv("MONOCON_CACHE", str(tmp_path / "machine-1"))
    Lease(SweepPaths.of(URL, "a"))._take()
    monkeypatch.setenv("MONOCON_CACHE", str(tmp_path / "machine-2"))
    return settings_of(storage=URL)


def test_the_same_submission_waits_for_the_lease_of_a_lost_head(
    lost_head: SweepSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_of(options(), lost_head)
    assert plan.lease and not plan.history
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{URL}/a: a driver on ") and "; waiting up to 30 s for " in line


def test_a_second_driver_without_or_resume_is_refused_at_once(
    lost_head: SweepSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="last heard of 0 s ago"):
        plan_of(parse(["a.yaml", "--name", "a"]), lost_head)
    assert capsys.readouterr().out == ""


def test_a_dry_run_waits_for_no_lease(
    lost_head: SweepSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan_of(options("--dry-run"), lost_head).lease is None
    assert capsys.readouterr().out == ""
