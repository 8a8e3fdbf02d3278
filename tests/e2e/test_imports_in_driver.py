"""A driver with imported trials, and the one that resumes it, without Ray."""

from __future__ import annotations

from pathlib import Path

import pytest
from drivers import finish, open_driver, report, search, settings_of
from mlflow import MlflowClient
from optuna.trial import FrozenTrial

from orchestrator.driver import Driver
from orchestrator.events import Event, SweepResumed, SweepStarted, TrialImported
from orchestrator.ledger import read_ledger
from orchestrator.proposals import Proposals
from orchestrator.search_space import to_trial_config
from orchestrator.settings import SweepSettings
from orchestrator.told import imported_trials, known_trials

pytestmark = pytest.mark.slow


def imported(settings: SweepSettings, number: int, accuracy: float, d_eff: float) -> TrialImported:
    values = {"head.kind": "none", "optimizer.head_lr": 2e-3}
    config = to_trial_config(settings.trial, values).model_dump()
    name, source = f"import-{number:04d}", f"earlier/trial-{number:04d}"
    return TrialImported(name, source, values, config, [report(3, accuracy, d_eff)], time=1.0)


def drive(driver: Driver, *points: tuple[float, float]) -> str:
    """Runs a sweep whose every trial reports one point; says what was printed."""
    for accuracy, d_eff in points:
        search(driver, accuracy, d_eff)
    return finish(driver)


def study_of(settings: SweepSettings, events: list[Event]) -> list[FrozenTrial]:
    """What a driver's study is rebuilt from."""
    history = known_trials(settings, events), imported_trials(settings, events)
    return Proposals(settings, *history).study.get_trials()


def test_imports_count_and_leave_nothing_but_their_points(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "search.trials=9")
    imports = [imported(settings, 0, 0.9, 3.0), imported(settings, 1, 0.5, 9.0)]
    first = open_driver(settings, imports)
    paths = first.paths
    text = drive(first, (0.95, 20.0), (0.8, 8.0))

    events = list(read_ledger(paths.ledger))
    assert [type(event) for event in events[:3]] == [SweepStarted, TrialImported, TrialImported]
    times = [event.time for event in events]
    assert times[:3] == sorted(times[:3]) and times[2] <= min(times[3:])
    assert [(p.trial, p.epoch) for p in first.record.front.sorted()] == [
        ("trial-0000", 3),
        ("import-0000", 3),
    ]
    assert {p.name for p in (paths.root / "snapshots").iterdir()} == {"trial-0000"}
    assert "(1 imported)" in text
    assert "from earlier/trial-0000: kind none" in text

    client = MlflowClient(settings.tracking.uri)
    runs = client.search_runs([first.tracker.runs.experiment_id])
    assert sorted(str(run.info.run_name) for run in runs) == ["s", "trial-0000", "trial-0001"]
    marks = {run.info.run_name: run.data.tags.get("on_front") for run in runs}
    assert marks == {"s": None, "trial-0000": "true", "trial-0001": "false"}

    again = open_driver(settings)
    drive(again, (0.97, 30.0))
    assert sum(isinstance(event, SweepResumed) for event in read_ledger(paths.ledger)) == 1
    assert sum(isinstance(event, TrialImported) for event in read_ledger(paths.ledger)) == 2
    assert [trial.number for trial in again.record.trials.values()] == [0, 1, 2]
    assert {p.trial for p in again.record.front} == {"trial-0002", "trial-0000", "import-0000"}
    studies = [study_of(settings, some) for some in (events, list(read_ledger(paths.ledger)))]
    assert [len(study) for study in studies] == [4, 5]  # two imports, and then one trial after another
    assert [trial.values for trial in studies[1][:4]] == [trial.values for trial in studies[0]]
    assert [trial.params for trial in studies[1][:4]] == [trial.params for trial in studies[0]]
