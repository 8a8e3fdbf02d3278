from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from rich.console import Console
from sweep_events import TRIALS, confirming, ended, record_of, reported

from orchestrator.events import Event, PointEvaluated, SearchEnded, TrialStatus
from orchestrator.outcome import Outcome, print_outcome
from orchestrator.paths import SweepPaths

A, B, _ = TRIALS


def printed(*events: Event, **where: Any) -> str:
    """What is said of a sweep that completed after these events, and of where its driver was."""
    console = Console(file=io.StringIO(), width=200, color_system=None)
    paths = SweepPaths(Path("/runs/s"))
    outcome = Outcome(
        record_of(*events), "completed", paths, "", "sqlite:///mlflow.db", 0, 0, lambda host: host
    )
    print_outcome(outcome._replace(**where), console)
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


def test_what_is_unfinished_is_gone_on_with_by_a_command() -> None:
    over = [ended(name) for name in TRIALS]
    assert "go on with it" not in printed(*FRONT, *over)
    events = [*FRONT, *over[:2], ended(TRIALS[2], "interrupted")]
    assert "-m orchestrator.sweep --resume /runs/s\n" in printed(*events)
    joined = printed(*events, address="10.0.0.1:6379")
    assert "-m orchestrator.sweep --resume /runs/s --address 10.0.0.1:6379\n" in joined
    job = printed(*events, address="auto", is_job=True)
    assert "go on with it:     python -m orchestrator.submit --resume s\n" in job


def test_points_that_are_not_evaluated_are_counted_and_gone_on_with() -> None:
    over = [*FRONT, *[ended(name) for name in TRIALS], SearchEnded("all trials ended", 9.0)]
    text = printed(*over, status="interrupted")
    assert "2 points are not evaluated on the test set" in text
    assert "-m orchestrator.sweep --resume /runs/s\n" in text
    one = [*over, PointEvaluated(A, 5, {"test_d_eff": 9.0}, 10.0)]
    text = printed(*one, PointEvaluated(B, 5, {}, 11.0, "its process died"))
    assert "1 final evaluations failed; /runs/s/ledger.jsonl says why" in text
    assert "not evaluated" not in text
    assert "-m orchestrator.sweep --resume /runs/s\n" in text
    assert "go on" not in printed(*one, PointEvaluated(B, 5, {"test_d_eff": 3.0}, 11.0))


def test_without_confirmation_nothing_is_said_of_it() -> None:
    text = printed(*FRONT)
    assert "further seeds" not in text
    assert "confirming" not in text
