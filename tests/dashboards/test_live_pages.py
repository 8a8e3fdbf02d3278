from __future__ import annotations

from pathlib import Path

import pytest
from stories import small_events, state_of

from dashboards.live_pages import LivePages
from dashboards.sweep_page import render
from dashboards.sweep_story import SweepStory
from orchestrator.events import Event
from orchestrator.ledger import Ledger, encode
from orchestrator.pages import DESCRIPTION, SWEEP_PAGE, RemotePages
from orchestrator.paths import SweepPaths

EVENTS = small_events()


@pytest.fixture
def paths(tmp_path: Path) -> SweepPaths:
    """A sweep that has begun."""
    found = SweepPaths(tmp_path)
    append(found, EVENTS[:2])
    return found


def append(paths: SweepPaths, events: list[Event]) -> None:
    ledger = Ledger(paths.ledger)
    for event in events:
        ledger.append(event)
    ledger.close()


def drawn(pages: LivePages | RemotePages, into: Path) -> dict[str, bytes]:
    into.mkdir()
    pages.draw_sweep(into, {"runs": "/r/"}, "7")
    return {path.name: path.read_bytes() for path in into.iterdir()}


def test_the_files_are_those_of_the_story_so_far(paths: SweepPaths, tmp_path: Path) -> None:
    append(paths, EVENTS[2:])
    files = drawn(LivePages(paths), tmp_path / "out")
    assert files.pop(DESCRIPTION).startswith(b"**completed**: 3 of 32 trials")
    assert files == render(SweepStory(EVENTS), {"runs": "/r/"})


def test_what_comes_later_is_drawn_the_next_time(paths: SweepPaths, tmp_path: Path) -> None:
    pages = LivePages(paths)
    assert b"0 of 32 trials" in drawn(pages, tmp_path / "first")[DESCRIPTION]
    append(paths, EVENTS[2:])
    assert b"3 of 32 trials" in drawn(pages, tmp_path / "second")[DESCRIPTION]
    again = drawn(pages, tmp_path / "third")
    assert again == drawn(LivePages(paths), tmp_path / "anew")


def test_a_line_that_is_being_written_is_left_for_the_next_time(
    paths: SweepPaths, tmp_path: Path
) -> None:
    pages = LivePages(paths)
    append(paths, EVENTS[2:-1])
    line = encode(EVENTS[-1])
    with paths.ledger.open("ab") as file:
        file.write(line[:20])
        file.flush()
        assert b"**running**" in drawn(pages, tmp_path / "torn")[DESCRIPTION]
        file.write(line[20:])
    assert b"**completed**" in drawn(pages, tmp_path / "whole")[DESCRIPTION]


@pytest.mark.slow
def test_pages_in_a_process_of_their_own_are_the_same(paths: SweepPaths, tmp_path: Path) -> None:
    append(paths, EVENTS[2:])
    remote = RemotePages(LivePages, paths)
    try:
        assert drawn(remote, tmp_path / "remote") == drawn(LivePages(paths), tmp_path / "here")
    finally:
        remote.close()


def test_after_a_fault_the_story_is_told_from_its_beginning(
    paths: SweepPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = LivePages(paths)
    append(paths, EVENTS[2:])
    with monkeypatch.context() as patched:
        patched.setattr(SweepStory, "apply", fail)
        with pytest.raises(MemoryError):
            drawn(pages, tmp_path / "never")
    assert drawn(pages, tmp_path / "first") == drawn(LivePages(paths), tmp_path / "second")


def fail(*arguments: object) -> None:
    raise MemoryError


def test_the_page_of_a_point_leads_to_its_run(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path)
    append(paths, EVENTS)
    LivePages(paths).draw_point("trial-0000", 5, tmp_path, {"runs": "http://host/{run}?x"})
    assert state_of((tmp_path / SWEEP_PAGE).read_text())["links"] == {"run": "http://host/run-0?x"}
    LivePages(paths).draw_point("trial-0000", 5, tmp_path, {})
    assert state_of((tmp_path / SWEEP_PAGE).read_text())["links"] == {}
