"""The story out of MLflow is the one of the events that the tracker heard of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from stories import digits_settings, metrics, report
from story_facts import assert_same
from story_stores import MLP, NONE, RATES, START, TrackedDriver, begun, ended, track_events, trial
from tracked_sweeps import make_store, uri

from dashboards.sweep_store import SweepStore
from dashboards.sweep_story import SweepStory
from dashboards.tracked_sweep import TrackedSweep
from orchestrator.errors import UserError
from orchestrator.events import (
    Event,
    PointEvaluated,
    SearchEnded,
    SweepEnded,
    SweepResumed,
    TrialEnded,
    TrialImported,
    TrialProposed,
    TrialRetried,
    TrialStarted,
    TrialWarned,
)
from orchestrator.search_space import to_trial_config
from orchestrator.settings_text import to_yaml
from trainables.reports import EpochReport


def tracked(folder: Path, sweep: str = "digits") -> TrackedSweep:
    found = TrackedSweep(SweepStore(uri(folder)), sweep)
    assert found.refresh()
    return found


def expected(events: Sequence[Event], folder: Path) -> SweepStory:
    """The story of the events; that of MLflow has MLflow's place in its settings."""
    story = SweepStory(events)
    tracking = story.settings.tracking.model_copy(update={"uri": uri(folder)})
    story.settings = story.settings.model_copy(update={"tracking": tracking})
    return story


def check(folder: Path, events: Sequence[Event]) -> None:
    assert_same(tracked(folder).story(), expected(events, folder))


@pytest.mark.parametrize("is_over", [True, False], ids=["ended", "running or killed"])
def test_trials_of_every_status_are_told(tmp_path: Path, is_over: bool) -> None:
    failed = trial(2, MLP, START + 9)
    events = [
        *begun(),
        *failed,
        TrialWarned("trial-0001", "its <loss> is strange", START + 9.75),
        TrialRetried("trial-0002", "its process <died>", START + 9.8125, "Traceback\n  y"),
        TrialStarted("trial-0002", START + 9.875),
        TrialRetried("trial-0002", "its node was preempted", START + 9.9, is_counted=False),
        TrialStarted("trial-0002", START + 9.95),
        TrialEnded("trial-0002", "failed", "RuntimeError: no <luck>", START + 10, "Traceback\n  x"),
        *trial(3, MLP, START + 11)[:1],
        *(ended(START + 12) if is_over else []),
    ]
    track_events(tmp_path, events)
    check(tmp_path, events)


def test_environment_and_imports_are_told(tmp_path: Path) -> None:
    reports = [EpochReport(5, metrics(0.99, math.inf)).to_dict()]
    reports += [EpochReport(10, metrics(0.98, 30.0)).to_dict()]
    config = to_trial_config(digits_settings().trial, MLP).model_dump()
    imported = TrialImported("import-0000", "digits-0/trial-0007", MLP, config, reports, START)
    environment = {"python": "3.11", "git_commit": "abc", "data_digest of dataset x, data.source y": "1"}
    first, *rest = begun(environment=environment, num_imported=1)
    events = [first, imported, *rest, *ended(START + 12)]
    track_events(tmp_path, events)
    check(tmp_path, events)


def test_each_driver_of_a_resumed_sweep_is_told(tmp_path: Path) -> None:
    environment = {"python": "3.12"}
    settings = digits_settings().model_dump(mode="json")
    cut: list[Event] = [
        TrialEnded("trial-0001", "interrupted", "interrupted", START + 9),
        SearchEnded("10 s are used up", START + 9.5),
        SweepEnded("interrupted", "interrupted", START + 10),
    ]
    resumed = SweepResumed(settings, environment, START + 100)
    again = [
        TrialStarted("trial-0001", START + 101),
        report(1, 15, metrics(0.88, 18.0), START + 102),
        *trial(2, MLP, START + 103),
    ]
    after_kill: list[Event] = [
        SweepResumed(settings, environment, START + 200),
        TrialStarted("trial-0001", START + 201),
        TrialStarted("trial-0002", START + 202),
        TrialEnded("trial-0002", "completed", "", START + 203),
        *ended(START + 204),
    ]
    first = [*begun(), *cut]
    second = [*first, resumed, *again]
    track_events(tmp_path, first)
    track_events(tmp_path, second, len(first))
    track_events(tmp_path, [*second, *after_kill], len(second))
    story = tracked(tmp_path).story()
    told = expected([*second, *after_kill], tmp_path)
    told.environment = story.environment  # `TrackedDriver` describes each driver's as the first one's
    assert_same(story, told)
    assert len(story.spans) == 6


def test_trials_that_confirm_and_evaluations_are_told(tmp_path: Path) -> None:
    proposed, started = trial(0, {**NONE, **RATES}, START + 20)
    assert isinstance(proposed, TrialProposed) and isinstance(started, TrialStarted)
    name = "trial-0000-seed-43"
    again = replace(proposed, trial=name, confirms="trial-0000", config={**proposed.config, "seed": 43})
    confirming = replace(report(0, 5, metrics(0.88, 41.0), START + 22), trial=name)
    tested = {"test_knn_accuracy": 0.89, "test_d_eff": 41.0, "test_reconstruction_error": math.inf}
    events = [
        *begun(),
        *ended(START + 10)[:2],
        again,
        replace(started, trial=name),
        confirming,
        TrialEnded(name, "completed", "", START + 23),
        PointEvaluated("trial-0001", 5, {}, START + 24, "OSError: no <disk>", "Traceback"),
        PointEvaluated("trial-0000", 5, {}, START + 25, "OSError: no <disk>", "Traceback"),
        PointEvaluated("trial-0000", 5, tested, START + 26),
        SweepEnded("completed", "all 2 trials ended", START + 27),
    ]
    track_events(tmp_path, events)
    check(tmp_path, events)


def test_a_running_sweep_is_followed_event_by_event(tmp_path: Path) -> None:
    first, *rest = [
        *begun(),
        *ended(START + 10)[:2],
        PointEvaluated("trial-0000", 5, {"test_d_eff": 4.0}, START + 12),
        ended(START + 10)[2],
    ]
    driver = TrackedDriver(tmp_path, [first])
    found = tracked(tmp_path)
    for number, event in enumerate(rest, start=1):
        driver.tell([event])
        driver.wait()
        found.refresh()
        assert_same(found.story(), expected([first, *rest[:number]], tmp_path))
    driver.close()
    assert not found.refresh()


def test_only_what_moved_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = begun()
    driver = TrackedDriver(tmp_path, events)
    driver.close()
    found = tracked(tmp_path)
    asked: list[list[str]] = []
    histories = SweepStore.histories

    def counted(store: SweepStore, run_ids: Sequence[str], names: Sequence[str]) -> Any:
        asked.append([driver.record.run_ids.get(run, run) for run in run_ids])
        return histories(store, run_ids, names)

    monkeypatch.setattr(SweepStore, "histories", counted)
    before = found.story()
    assert not found.refresh()
    assert asked == []
    driver.runs.log_report("trial-0001", {15: metrics(0.9, 10.0)}, START + 30)
    assert found.refresh()
    assert asked == [[driver.runs.run_ids["trial-0001"]]]
    assert found.story() is before, "what is new came last, so the story goes on"
    assert before.record.trials["trial-0001"].last_epoch == 15


def test_a_trial_without_settings_is_none_yet(tmp_path: Path) -> None:
    driver = TrackedDriver(tmp_path, begun())
    driver.close()
    parent = SweepStore(uri(tmp_path)).parent("digits")
    tags = {"mlflow.parentRunId": parent.run_id, "trial": "trial-0002", "status": "pending"}
    client = driver.runs._client
    run = client.create_run(parent.experiment_id, run_name="trial-0002", tags=tags)
    found = tracked(tmp_path)
    assert list(found.story().record.trials) == ["trial-0000", "trial-0001"]
    client.log_param(run.info.run_id, "head.kind", "none")
    assert found.refresh()
    assert found.story().record.trials["trial-0002"].status == "pending"


def test_what_was_tracked_without_times_of_drivers_is_told_by_those_of_mlflow(tmp_path: Path) -> None:
    driver = TrackedDriver(tmp_path, [*begun(), *ended(START + 10)])
    driver.close()
    client = driver.runs._client
    client.delete_tag(driver.runs.run_id, "drivers")
    for run_id in driver.runs.run_ids.values():
        client.delete_tag(run_id, "ran")
    story = tracked(tmp_path).story()
    assert [(s.trial, s.start, s.end) for s in story.spans] == [
        ("trial-0000", START + 1.25, START + 7.75),
        ("trial-0001", START + 5.125, START + 10),
    ]
    assert (story.record.status, len(story.record.front)) == ("completed", 2)


def test_a_sweep_may_be_named_by_its_run(tmp_path: Path) -> None:
    for at in (START, START + 1000):
        track_events(tmp_path, begun(id=f"id-{at}", time=at))
    store = SweepStore(uri(tmp_path))
    older = min(store.sweeps(), key=lambda sweep: sweep.started)
    assert TrackedSweep(store, older.run_id).parent.tags["sweep_id"] == f"id-{START}"
    assert TrackedSweep(store, "digits").parent.tags["sweep_id"] == f"id-{START + 1000}"


def test_sweeps_are_listed_with_how_they_stand(tmp_path: Path) -> None:
    track_events(tmp_path, begun(name="runs", id="a"))
    track_events(tmp_path, [*begun(name="over", id="b"), *ended(START + 10)])
    found = {sweep.name: sweep for sweep in SweepStore(uri(tmp_path)).sweeps()}
    over, runs = found["over"], found["runs"]
    assert (over.status, over.reason) == ("completed", "all 2 trials ended")
    assert (over.started, over.ended, runs.ended) == (START, START + 12, None)
    assert (over.num_planned, over.num_failed, over.front_size) == (32, 0, 2)
    assert over.objectives == "knn_accuracy max, d_eff min"
    story = tracked(tmp_path, "over").story()
    assert over.hypervolume == pytest.approx(story.record.hypervolumes[-1])
    assert runs.status == "running"


def test_settings_that_are_not_there_yet_are_an_error_of_one_line(tmp_path: Path) -> None:
    driver = TrackedDriver(tmp_path, begun())
    driver.close()
    parent = SweepStore(uri(tmp_path)).parent("digits")
    tags = {key: parent.tags[key] for key in ("sweep", "mlflow.source.name")}
    bare = driver.runs._client.create_run(parent.experiment_id, tags=tags | {"sweep": "bare"})
    found = TrackedSweep(SweepStore(uri(tmp_path)), "bare")
    with pytest.raises(UserError, match=r"^sqlite:[^\n]*bare[^\n]* has no sweep.yaml \(yet\)$"):
        found.refresh()
    driver.runs._client.log_text(bare.info.run_id, to_yaml(digits_settings()), "sweep.yaml")
    assert found.refresh()


def test_a_points_files_are_downloaded_as_they_lie(tmp_path: Path) -> None:
    driver = TrackedDriver(tmp_path, begun())
    driver.close()
    run_id = driver.runs.run_ids["trial-0000"]
    for place in ("evaluations/epoch-0005/summary.json", "traces/epoch-0005.npz"):
        driver.runs._client.log_text(run_id, place, place)
    store, into = SweepStore(uri(tmp_path)), tmp_path / "into"
    into.mkdir()
    assert store.point_folder(run_id, 5, into) == into
    files = sorted(str(p.relative_to(into)) for p in into.rglob("*") if p.is_file())
    assert files == ["evaluations/epoch-0005/summary.json", "traces/epoch-0005.npz"]
    other = tmp_path / "other"
    other.mkdir()
    assert not list(store.point_folder(driver.runs.run_ids["trial-0001"], 5, other).iterdir())


def test_nothing_is_found_in_a_store_without_sweeps(tmp_path: Path) -> None:
    make_store(tmp_path)
    store = SweepStore(uri(tmp_path))
    assert store.sweeps() == []
    with pytest.raises(UserError, match="has no experiment with a sweep"):
        TrackedSweep(store, "any")
