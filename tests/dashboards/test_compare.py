"""The command that draws two fronts together."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path

import pytest
from compared_stories import story
from stories import metrics
from story_stores import START, begun, ended, track_events
from tracked_sweeps import uri

from dashboards.compare import main, render, to_markdown
from dashboards.comparison import compare
from dashboards.sweep_store import SweepStore
from orchestrator.events import SweepStarted, TrialReported

HOSTILE = "<script>hostile()</script>|`x`"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two sweeps of one name, and another that is better."""
    place = tmp_path_factory.mktemp("two")
    for sweep, name in (("a", "one"), ("b", "one"), ("c", "better")):
        started, *events = [*begun(), *ended(START + 10)]
        assert isinstance(started, SweepStarted)
        at = START + ord(sweep)
        if name == "better":
            better = metrics(0.99, 4.0)
            events = [
                replace(e, report={**e.report, "metrics": better}) if isinstance(e, TrialReported) else e
                for e in events
            ]
        track_events(place, [replace(started, name=name, id=sweep, time=at), *events])
    return place


def test_the_command_prints_and_writes_the_numbers(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["better", "one", "--uri", uri(folder), "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "| front covered by the other's | 0% | 100% |" in out
    assert f"page: {tmp_path / 'out' / 'compare.html'}" in out
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"compare.html", "compare.png", "compare.md", "compare.csv"}
    with (tmp_path / "out" / "compare.csv").open() as file:
        found = {row["quantity"]: (row["better"], row["one"]) for row in csv.DictReader(file)}
    assert float(found["hypervolume"][0]) == pytest.approx(0.99 * (128 - 4))
    assert found["coverage_by_other"] == ("0.0", "1.0")
    assert (tmp_path / "out" / "compare.md").read_text() in out


def test_two_sweeps_of_one_name_are_told_apart_by_their_runs(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = [sweep.run_id for sweep in SweepStore(uri(folder)).sweeps() if sweep.name == "one"]
    arguments = ["--uri", uri(folder), "--uri-b", uri(folder), "--out", str(tmp_path)]
    assert main([*ids, *arguments]) == 0
    assert f"|  | one ({ids[0][:8]}) | one ({ids[1][:8]}) |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["one", "one"], "one and one are both the run .* give the ids of their runs"),
        (["one", "tow"], "has no sweep 'tow'; it has one, better"),
        (["one", "better", "--out", "/dev/null/x"], "--out: cannot write to /dev/null/x "),
        (["one", "better", "--uri-b", "sqlite:////nowhere/x.db"], "folder /nowhere does not exist"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--uri", uri(folder)]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and error.count("\n") == 1


def test_names_are_escaped_everywhere() -> None:
    stories = (story((0.5, 28.0)), story((0.6, 28.0)))
    compared = compare(stories, (HOSTILE, "B"))
    page = render(stories, compared)["compare.html"].decode()
    assert "<script>hostile" not in page
    assert "hostile()</script>\\|" in to_markdown(compared)


def test_numbers_under_further_seeds_have_their_spread_and_a_row_each() -> None:
    seeds = {0: [(0.5, 28.0), (0.5, 8.0)]}
    stories = (story((0.5, 28.0), seeds=seeds), story((0.5, 28.0)))
    compared = compare(stories, ("A", "B"))
    assert "| hypervolume under further seeds | 55 ± 7.1 (n = 2) | - |" in to_markdown(compared)
    rows = render(stories, compared)["compare.csv"].decode().splitlines()
    assert rows[-2:] == ["hypervolume_seed_1,50.0,", "hypervolume_seed_2,60.0,"]
