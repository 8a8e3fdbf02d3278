"""A sweep that imports an earlier one, from its ledger and from MLflow, and is resumed."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pandas as pd
import pytest
from stories import state_of
from sweep_runs import EVALUATED, SweepRun, run_sweep
from tracked_story import assert_mlflow_tells_the_story

from orchestrator.earlier_sweeps import read_earlier
from orchestrator.events import RunOpened, TrialImported
from orchestrator.export import main as export
from orchestrator.imports import import_sweeps
from orchestrator.pareto import nondominated
from orchestrator.settings import load_settings

pytestmark = pytest.mark.slow

OTHER_SEED = ("--set", "trial.seed=1")
"""So that what is trained is no repetition of what is imported."""


def run_importing(tiny: SweepRun, name: str, *arguments: str, resumed: bool = False) -> SweepRun:
    return run_sweep(tiny.folder, name, *EVALUATED, *OTHER_SEED, *arguments, resumed=resumed)


@pytest.fixture(scope="module")
def imported(tiny_sweep: SweepRun) -> SweepRun:
    sweep = run_importing(tiny_sweep, "from-ledger", "--trials", "1", "--import", "tiny")
    assert sweep.returncode == 0, sweep.stderr
    return sweep


def imports(sweep: SweepRun) -> list[TrialImported]:
    return [event for event in sweep.events if isinstance(event, TrialImported)]


def test_trials_that_did_not_fail_are_imported(tiny_sweep: SweepRun, imported: SweepRun) -> None:
    assert "import tiny: 3 of 4 trials fit\n  1: failed\n" in imported.stdout
    earlier = tiny_sweep.record.trials
    for event in imports(imported):
        trial = earlier[event.source.removeprefix("tiny/")]
        assert event.parameters == trial.parameters
        found = [(report["epoch"], report["metrics"]) for report in event.reports]
        assert found == [(point.epoch, point.metrics) for point in trial.points]


def test_the_ledgers_clock_does_not_go_back(imported: SweepRun) -> None:
    times = [event.time for event in imported.events if not isinstance(event, RunOpened)]
    assert times == sorted(times)
    assert imported.record.active_s > 0


def test_the_front_is_that_of_both_sweeps(tiny_sweep: SweepRun, imported: SweepRun) -> None:
    record = imported.record
    trials = [*tiny_sweep.record.trials.values(), *record.trials.values()]
    values = [point.values for trial in trials for point in trial.points]
    kept = [value for value, keep in zip(values, nondominated(values), strict=True) if keep]
    assert sorted(point.values for point in record.front) == sorted(kept)
    num_imported = len(record.front) - len(record.own_front())
    assert num_imported, "no imported point is on the front, so this shows nothing"
    assert f"({num_imported} imported)" in imported.stdout
    assert "from tiny/trial-" in imported.stdout


def test_nothing_of_an_imported_trial_is_written_again(imported: SweepRun) -> None:
    own = {(point.trial, point.epoch) for point in imported.record.own_front()}
    stored = {folder.parent.name for folder in imported.paths.root.glob("snapshots/*/epoch-*")}
    assert stored == {trial for trial, _ in own}
    assert set(imported.record.evaluations) == own
    assert set(imported.children) == {"trial-0000"}
    assert imported.children["trial-0000"].data.tags["on_front"] == str(bool(own)).lower()


def test_the_pages_say_where_imported_points_are_from(imported: SweepRun, tmp_path: Path) -> None:
    run_id = imported.parent.info.run_id
    table = Path(imported.client.download_artifacts(run_id, "pareto_front.csv", str(tmp_path)))
    sources = pd.read_csv(io.StringIO(table.read_text()), keep_default_na=False)["source"].tolist()
    record = imported.record
    assert sorted(sources) == sorted(record.trial(point.trial).source for point in record.front)
    page = Path(imported.client.download_artifacts(run_id, "report.html", str(tmp_path)))
    points = state_of(page.read_text())["sections"][1]["html"]
    assert "<th>from</th>" in points
    assert "<td>tiny/trial-" in points


def test_mlflow_alone_tells_the_story(imported: SweepRun) -> None:
    assert_mlflow_tells_the_story(imported)


def test_mlflow_gives_the_same_points(tiny_sweep: SweepRun, imported: SweepRun) -> None:
    settings = load_settings(imported.paths.settings)
    earlier = read_earlier(f"mlflow:{tiny_sweep.name}", settings)
    from_mlflow, _ = import_sweeps([earlier], settings, 0.0)
    told = [
        [
            json.dumps([e.trial, e.source, e.parameters, e.config, e.reports], sort_keys=True)
            for e in events
        ]
        for events in (imports(imported), from_mlflow)
    ]
    assert told[0] == told[1]
    assert len(told[0]) == 3


def test_a_resumed_sweep_keeps_its_imports(tiny_sweep: SweepRun, imported: SweepRun) -> None:
    before = imports(imported)
    longer = run_importing(tiny_sweep, "from-ledger", "--trials", "2", resumed=True)
    assert longer.returncode == 0, longer.stderr
    assert "going on after 1 of 2 trials" in longer.stdout
    assert imports(longer) == before
    record = longer.record
    assert [(t.name, t.number, t.status) for t in record.trials.values()] == [
        ("trial-0000", 0, "completed"),
        ("trial-0001", 1, "completed"),
    ]
    assert record.trials["trial-0001"].parameters["head.kind"] == "mlp"  # the second of `first_trials`
    assert export(["from-ledger", "--storage", str(longer.paths.root.parent)]) == 0


def test_a_sweep_of_which_nothing_fits_is_refused(tiny_sweep: SweepRun) -> None:
    refused = run_sweep(
        tiny_sweep.folder, "refused", "--set", "trial.epochs=8", "--import", "tiny", "--trials", "1"
    )
    assert refused.returncode == 2
    assert "--import tiny: none of its 4 trials fits" in refused.stderr
    assert "epochs is 7 there and 8 here" in refused.stderr
    assert not refused.paths.root.exists()
