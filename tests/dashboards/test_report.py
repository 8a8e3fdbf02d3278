"""The command that draws every page of a sweep anew from MLflow."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mlflow import MlflowClient
from story_stores import START, begun, track_events
from tracked_sweeps import TrackedTrial, params, track, uri

from dashboards.report import main
from dashboards.sweep_store import SweepStore
from orchestrator.events import Event, PointEvaluated


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a sweep that was killed after its first final evaluations, one of which failed."""
    folder = tmp_path_factory.mktemp("killed")
    evaluated: list[Event] = [
        PointEvaluated("trial-0000", 5, {"test_knn_accuracy": 0.9, "test_d_eff": 40.0}, START + 20),
        PointEvaluated("trial-0001", 5, {}, START + 21, "OSError: no disk", "Traceback"),
    ]
    track_events(folder, [*begun(), *evaluated])
    return folder


def artifacts(folder: Path, run_id: str, place: str | None = None) -> set[str]:
    return {item.path for item in MlflowClient(uri(folder)).list_artifacts(run_id, place)}


def test_the_pages_of_a_killed_sweep_are_drawn_and_logged(
    killed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["digits", "--uri", uri(killed), "--out", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[1:]] == [
        "report.html, pareto_front.png, pareto_front.csv",
        "trial-0000",
        "tables",
    ]
    made = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*")}
    sweep = {"report.html", "pareto_front.png", "pareto_front.csv"}
    assert {name for name in made if not name.startswith("tables/")} == {
        *sweep,
        "points/trial-0000-epoch-0005.html",
    }
    assert "tables/tables.html" in made
    (found,) = SweepStore(uri(killed)).sweeps()
    assert sweep <= artifacts(killed, found.run_id)
    store = SweepStore(uri(killed))
    runs = {child.trial: child.run_id for child in store.children(store.parent("digits"))}
    place = "evaluations/epoch-0005"
    assert f"{place}/report.html" in artifacts(killed, runs["trial-0000"], place)
    assert f"{place}/report.html" not in artifacts(killed, runs["trial-0001"], place)


def test_a_sweep_without_evaluations_has_its_page_and_no_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    track_events(tmp_path, begun())
    assert main(["digits", "--uri", uri(tmp_path)]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("no tables: sweep 'digits' (running) has no trial with a final evaluation")


def test_the_runs_description_is_the_front(killed: Path) -> None:
    (found,) = SweepStore(uri(killed)).sweeps()
    assert main([found.run_id, "--uri", uri(killed)]) == 0
    tags = MlflowClient(uri(killed)).get_run(found.run_id).data.tags
    assert tags["mlflow.note.content"].startswith("**running**: 1 of 32 trials ended, 2 points")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digit"], "has no sweep 'digit'; it has digits$"),
        (["digits", "--out", "/dev/null/x"], "--out: cannot write to /dev/null/x "),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, killed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--uri", uri(killed)]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error.strip()) and error.count("\n") == 1


def test_the_run_of_a_trial_is_told_from_its_sweeps(
    killed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = SweepStore(uri(killed))
    parent = store.parent("digits")
    trial = store.children(parent)[0]
    assert main([trial.run_id, "--uri", uri(killed)]) == 2
    said = f"the run {trial.run_id} is {trial.trial} of sweep 'digits'; name the sweep, or its run"
    error = capsys.readouterr().err
    assert f"{said} {parent.run_id}\n" in error and error.count("\n") == 1


def test_a_run_that_is_not_there_is_no_sweep(killed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["0" * 32, "--uri", uri(killed)]) == 2
    assert f"has no sweep '{'0' * 32}'" in capsys.readouterr().err


def test_a_sweep_without_settings_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    track(tmp_path, "bare", [TrackedTrial(params())])
    assert main(["bare", "--uri", uri(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "has no sweep.yaml (yet)" in error and error.count("\n") == 1
