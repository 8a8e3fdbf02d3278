from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from sweep_events import DIGITS, imported, settings_of

from orchestrator import dry_run
from orchestrator.dry_run import Work, estimate, seconds_per_step, show
from orchestrator.proposals import Proposals
from orchestrator.settings import load_settings
from trainables.config import TrialConfig


@pytest.mark.parametrize(
    ("batch_size", "steps_per_epoch"), [(1197, 1), (1196, 2), (128, 10), (2, 599), (4096, 1)]
)
def test_the_estimate_is_own_trials_to_its_last_epoch(batch_size: int, steps_per_epoch: int) -> None:
    trial = DIGITS | {"epochs": 60, "warmup": {"epochs": 5}, "batch_size": batch_size}
    work = estimate(settings_of(trial=trial, search={"trials": 32}))
    assert work == Work(epochs=32 * 65, steps=32 * 65 * steps_per_epoch, items=32 * 65 * 1197)


def shown(monkeypatch: pytest.MonkeyPatch, num_trials: int = 8, **changes: Any) -> str:
    monkeypatch.setattr(dry_run, "seconds_per_step", lambda config: 0.01)
    console = Console(file=io.StringIO(), width=200)
    trial = DIGITS | {"epochs": 60, "warmup": {"epochs": 5}, "batch_size": 128}
    show(settings_of(trial=trial, search={"trials": num_trials}, **changes), console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_dry_run_prints_settings_that_can_be_run(
    monkeypatch: pytest.MonkeyPatch, write_space: Callable[[str], Path]
) -> None:
    resolved = shown(monkeypatch).partition("the first ")[0]
    settings = load_settings(write_space(resolved))
    assert settings.trial.epochs == 60
    assert settings == settings_of(trial=settings.trial, search={"trials": 8})


@pytest.mark.parametrize("num_trials", [1, 5, 8])
def test_a_dry_run_prints_the_first_proposals(num_trials: int, monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, num_trials).partition(f"of {num_trials} trials\n")[2]
    rows = text.splitlines()[1 : min(num_trials, 5) + 1]
    proposals = Proposals(settings_of(search={"trials": num_trials}))
    for row in rows:
        number, values, _ = proposals.ask()
        assert row.split()[:2] == [str(number), str(values["head.kind"])]


def test_a_dry_run_numbers_its_proposals_from_0_beside_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_run, "seconds_per_step", lambda config: 0.01)
    console = Console(file=io.StringIO(), width=200)
    parameters = {"head.kind": "none", "temperature": 0.1}
    events = [imported(f"import-{n:04d}", (0.9, 5.0), **parameters) for n in range(3)]
    show(settings_of(search={"trials": 2}), console, events)
    assert isinstance(console.file, io.StringIO)
    rows = console.file.getvalue().partition("of 2 trials\n")[2].splitlines()[1:3]
    assert [row.split()[0] for row in rows] == ["0", "1"]


def test_a_dry_run_prints_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    last = shown(monkeypatch).splitlines()[-1]
    assert last.startswith("at most 520 epochs, 5,200 steps, 622,440 items; ")
    assert "10 ms a step here on one thread, so about 52 s of training at most" in last


def test_a_dry_run_says_what_confirming_adds_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, confirm={"seeds": 3})
    assert "under 3 further seeds each; their number is known after the search, so at most 1,560" in text
    assert "further seeds" not in shown(monkeypatch)


def test_a_dry_run_makes_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    shown(monkeypatch)
    assert list(tmp_path.iterdir()) == []


def test_a_step_takes_some_time() -> None:
    assert seconds_per_step(TrialConfig(**DIGITS, batch_size=16)) > 0
