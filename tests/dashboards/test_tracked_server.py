"""Over HTTP the story is the same, also where the server does not know the quick way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from story_facts import assert_same
from story_stores import START, begun, ended, track_events
from tracked_sweeps import uri

from dashboards import metric_histories
from dashboards.mlflow_ui import mlflow_ui
from dashboards.sweep_store import SweepStore
from dashboards.sweep_story import SweepStory
from dashboards.tracked_sweep import TrackedSweep
from orchestrator.errors import UserError
from orchestrator.tracking_check import check_tracking

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("served")
    track_events(place, [*begun(), *ended(START + 10)])
    return place


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with mlflow_ui(uri(folder)) as found:
        deadline = time.monotonic() + 60
        while not _answers(found):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield found


def _answers(address: str) -> bool:
    try:
        check_tracking(address)
    except UserError:
        return False
    return True


def story_at(place: str) -> SweepStory:
    tracked = TrackedSweep(SweepStore(place), "digits")
    assert tracked.refresh()
    assert not tracked.refresh()
    return tracked.story()


def test_a_server_tells_what_its_database_does(folder: Path, address: str) -> None:
    assert_same(story_at(address), story_at(uri(folder)))


@pytest.mark.parametrize(
    ("name", "value"),
    [("_HISTORIES", "/ajax-api/2.0/mlflow/metrics/unknown-path"), ("GROUP_ROWS", 1)],
    ids=["no such path", "an answer that may be cut off"],
)
def test_metrics_are_asked_for_one_by_one_where_it_must_be(
    name: str, value: object, folder: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = story_at(uri(folder))
    monkeypatch.setattr(metric_histories, name, value)
    assert_same(story_at(address), expected)
