from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console
from sweep_events import TRIALS, confirming, ended, record_of, reported

from orchestrator.events import Event, TrialStatus
from orchestrator.outcome import Outcome, print_outcome
from orchestrator.paths import SweepPaths

A, B, _ = TRIALS


def printed(*events: Event) -> str:
    """What is said of a sweep that completed after these events."""
    console = Console(file=io.StringIO(), width=200, color_system=None)
    paths = SweepPaths(Path("/runs/s"))
    print_outcome(
        Outcome(record_of(*events), "completed", paths, "", "sqlite:///mlflow.db", 0, lambda host: host),
        console,
    )
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def repeat(of: str, seed: int, status: TrialStatus) -> list[Event]:
    name = f"{of}-seed-{seed}"
    return [confirming(of, seed), reported(name, 5, 0.75, 4.0), ended(name, status)]


FRONT = [reported(A, 5, 0.9, 9.0), reported(B, 5, 0.5, 3.0)]


def test_the_confirmed_front_is_shown_and_what_failed_is_counted() -> None:
    text = printed(
        *FRONT, *repeat(A, 43, "completed"), *repeat(B, 43, "completed"), *repeat(A, 44, "failed")
    )
    assert "the front under further seeds" in text
    assert "confirming trials: 2 completed, 1 failed" in text
    assert "failed under every further seed" not in text


def test_a_configuration_that_no_seed_confirms_is_named() -> None:
    text = printed(*FRONT, *repeat(A, 43, "completed"), *repeat(B, 43, "failed"))
    assert f"{B} failed under every further seed: nothing confirms its points; /runs/s/ledger" in text
    assert f"{A} failed" not in text


def test_without_confirmation_nothing_is_said_of_it() -> None:
    text = printed(*FRONT)
    assert "further seeds" not in text
    assert "confirming" not in text
