from __future__ import annotations

import pytest
from stories import (
    START,
    digits_settings,
    imported,
    metrics,
    opening,
    parameters,
    proposal,
    report,
    small_events,
    small_story,
)

from dashboards.sweep_story import Arrival, Span, SweepStory
from orchestrator.events import (
    Event,
    PointEvaluated,
    SweepEnded,
    SweepResumed,
    TrialEnded,
    TrialStarted,
    TrialWarned,
)
from orchestrator.record import SweepRecord

SETTINGS = digits_settings()


def resumed(at: float, *overrides: str) -> SweepResumed:
    """A further driver takes over."""
    data = digits_settings(*overrides).model_dump(mode="json")
    return SweepResumed(data, {"host": "second"}, START + at)


def facts(record: SweepRecord) -> object:
    """What a record tells."""
    front = record.front
    points = {trial.name: [(p.epoch, p.values) for p in trial.points] for trial in record.own_trials}
    return (
        points,
        [(trial.status, trial.started, trial.ended, trial.reason) for trial in record.own_trials],
        sorted((p.trial, p.epoch) for p in front),
        front.picked and (front.picked.trial, front.picked.epoch),
        front.baseline and (front.baseline.trial, front.baseline.epoch),
        (record.hypervolumes, record.run_ids, record.status, record.num_epochs, record.active_s),
    )


LATER: list[Event] = [
    resumed(300, "search.trials=40", "pick=knee"),
    *proposal(SETTINGS, 3, parameters("mlp"), START + 310),
    report(3, 5, metrics(0.99, 1.0), START + 320),
    TrialEnded("trial-0003", "stopped", "enough", START + 330),
    SweepEnded("completed", "", START + 340),
]


def test_it_starts_from_the_settings_of_the_first_event() -> None:
    story = small_story()
    assert (story.name, story.settings) == ("digits", SETTINGS)
    assert story.environment["cpu"] == "two cores"


def test_its_record_is_that_of_all_events() -> None:
    story = small_story(events=LATER)
    events = [*small_events(), *LATER]
    assert facts(story.record) == facts(SweepRecord.of(story.settings, events))


@pytest.mark.parametrize("first", ["knee", "best d_eff subject to knn_accuracy >= 0.9 * baseline"])
@pytest.mark.parametrize(
    "then", ["null", "knee", "best knn_accuracy", "best d_eff subject to knn_accuracy >= 0.9 * baseline"]
)
def test_a_resume_may_bring_another_pick(first: str, then: str) -> None:
    """The record is as if it had been that one from the start; a baseline that is known stays so."""
    events = [*small_events(f"pick={first}"), resumed(300, f"pick={then}")]
    story = SweepStory(events)
    whole = SweepRecord.of(story.settings, events).front
    assert story.record.front.picked is not None or then == "null"
    assert (story.record.front.picked, story.record.front.pick) == (whole.picked, whole.pick)
    assert whole.baseline is None or story.record.front.baseline == whole.baseline


def test_later_events_may_follow_one_by_one() -> None:
    events = [*small_events(), *LATER]
    story = SweepStory([])
    for event in events:
        story.apply(event)
    whole = SweepStory(events)
    assert (story.arrivals, story.spans, story.latest) == (whole.arrivals, whole.spans, whole.latest)


def test_a_resume_brings_its_settings_and_environment() -> None:
    story = small_story(events=[resumed(300, "search.trials=40")])
    assert story.settings.num_trials == 40 and story.environment == {"host": "second"}


def test_reports_arrive_in_order() -> None:
    arrivals = small_story().arrivals
    assert arrivals[:2] == [
        Arrival(START + 10, "trial-0000", 5),
        Arrival(START + 20, "trial-0000", 10),
    ]
    assert len(arrivals) == 12


def test_a_trial_is_worked_on_from_its_start_to_its_end() -> None:
    assert small_story().spans == [
        Span(f"trial-{n:04d}", START + 60 * n, START + 60 * n + 50) for n in range(3)
    ]


def test_a_killed_drivers_work_ends_with_its_last_event() -> None:
    begun = [*opening(SETTINGS), *proposal(SETTINGS, 0, parameters("mlp"), START + 1)]
    begun.append(report(0, 5, metrics(0.5, 9.0), START + 10))
    story = SweepStory([*begun, resumed(100), TrialStarted("trial-0000", START + 110)])
    assert story.spans == [
        Span("trial-0000", START + 1, START + 10),
        Span("trial-0000", START + 110, None),
    ]


def test_a_trial_that_is_taken_up_again_has_two_spans() -> None:
    begun = [*opening(SETTINGS), *proposal(SETTINGS, 0, parameters("mlp"), START + 1)]
    begun += [report(0, 5, metrics(0.5, 9.0), START + 10), TrialStarted("trial-0000", START + 20)]
    spans = SweepStory([*begun, SweepEnded("interrupted", "", START + 30)]).spans
    assert spans == [
        Span("trial-0000", START + 1, START + 10),
        Span("trial-0000", START + 20, START + 30),
    ]


def test_an_imported_trial_is_no_work_of_this_sweep() -> None:
    story = SweepStory([*opening(SETTINGS), imported(0, parameters("mlp"), (0.5, 9.0))])
    assert (story.arrivals, story.spans) == ([], [])
    assert [point.trial for point in story.record.front] == ["import-0000"]


def test_warnings_are_kept_by_trial() -> None:
    story = small_story(events=[TrialWarned("trial-0001", "no positives", START)])
    assert story.warnings == {"trial-0001": "no positives"}


def test_an_evaluation_that_succeeds_after_all_is_no_failure() -> None:
    failed = PointEvaluated("trial-0001", 5, {}, START + 210, "out of memory")
    other = PointEvaluated("trial-0001", 10, {}, START + 211, "no space")
    reasons = {("trial-0001", 5): "out of memory", ("trial-0001", 10): "no space"}
    story = small_story(events=[failed, other])
    assert story.failed_evaluations == reasons
    story.apply(PointEvaluated("trial-0001", 5, {"test_d_eff": 3.0}, START + 220))
    assert story.failed_evaluations == {("trial-0001", 10): "no space"}


def test_durations_are_read_back() -> None:
    settings = digits_settings("search.time_budget=90s", "checkpoint_every=null")
    assert SweepStory(opening(settings)).settings == settings
