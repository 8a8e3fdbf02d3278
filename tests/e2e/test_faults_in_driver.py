"""A driver one of whose own parts fails: without Ray."""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path

import pytest
from drivers import open_driver, search, settings_of, stop_logging
from mlflow import MlflowClient

from orchestrator.errors import UserError
from orchestrator.events import Event, SweepEnded, TrialEnded
from orchestrator.ledger import read_ledger
from orchestrator.record import SweepRecord

pytestmark = pytest.mark.slow


def test_a_part_that_fails_ends_the_sweep_for_all_others(tmp_path: Path) -> None:
    def fail(event: Event, record: SweepRecord) -> None:
        if isinstance(event, TrialEnded):
            raise RuntimeError(f"{event.trial} of {len(record.trials)} is too many")

    driver = open_driver(settings_of(tmp_path, "search.trials=2"))
    driver.listeners.insert(0, fail)
    with pytest.raises(RuntimeError, match="trial-0000 of 1 is too many"), driver:
        search(driver, 0.95, 20.0)
    stop_logging()
    (last,) = [e for e in read_ledger(driver.paths.ledger) if isinstance(e, SweepEnded)]
    assert (last.status, last.reason) == ("failed", "RuntimeError: trial-0000 of 1 is too many")
    client = MlflowClient(driver.settings.tracking.uri)
    runs = client.search_runs([driver.tracker.runs.experiment_id])
    assert {(run.info.run_name, run.info.status) for run in runs} >= {("s", "FAILED")}


def test_a_storage_without_locks_is_refused_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(UserError, match=r"cannot be locked \(No locks available\)"):
        open_driver(settings_of(tmp_path / "runs"))
    stop_logging()
    assert list(tmp_path.iterdir()) == []
