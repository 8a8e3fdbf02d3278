from __future__ import annotations

import json

import pytest
from front_tables import HOSTILE
from hypothesis import given, settings
from hypothesis import strategies as st
from stories import (
    START,
    digits_settings,
    imported,
    metrics,
    opening,
    parameters,
    proposal,
    report,
    small_story,
)

from dashboards.figures.hypervolume import HypervolumeInfo, info, plot
from dashboards.sweep_story import SweepStory
from orchestrator.events import Event, SweepResumed, TrialEnded
from orchestrator.pareto import hypervolume

REFERENCE = (0.0, 128.0)  # minus accuracy, d_eff
NUM_TRIALS = 4


def slow_volume(points: list[tuple[float, float]]) -> float:
    """Of feasible points, from scratch."""
    values = [(-accuracy, d_eff) for accuracy, d_eff in points if accuracy >= 0.25 and d_eff <= 100]
    return hypervolume(values, REFERENCE)


Arriving = list[tuple[int, float, float, bool]]


def story_of(arriving: Arriving, before: list[tuple[float, float]]) -> SweepStory:
    """Trials whose reports come in any order, a second apart; some end half a second after theirs."""
    sweep = digits_settings('constraints=["knn_accuracy >= 0.25", "d_eff <= 100"]')
    events: list[Event] = [*opening(sweep)]
    events += [imported(n, parameters("mlp"), point) for n, point in enumerate(before)]
    for number in range(NUM_TRIALS):
        events += proposal(sweep, number, parameters("mlp"))
    epochs = dict.fromkeys(range(NUM_TRIALS), 0)
    for place, (number, accuracy, d_eff, ends) in enumerate(arriving, 1):
        epochs[number] += 5
        events.append(report(number, epochs[number], metrics(accuracy, d_eff), START + place))
        if ends:
            events.append(TrialEnded(f"trial-{number:04d}", "completed", "", START + place + 0.5))
    return SweepStory(events)


values = st.tuples(
    st.integers(0, 8).map(lambda hits: hits / 8), st.integers(1, 8).map(lambda n: n * 16.0)
)
arrivals = st.lists(
    st.tuples(st.integers(0, NUM_TRIALS - 1), values, st.just(False)).map(
        lambda drawn: (drawn[0], *drawn[1], drawn[2])
    ),
    min_size=1,
    max_size=20,
)


@settings(max_examples=40, deadline=None)
@given(arrivals, st.lists(values, max_size=3))
def test_it_is_the_volume_from_scratch_at_each_arrival(
    arriving: Arriving, before: list[tuple[float, float]]
) -> None:
    drawn = info(story_of(arriving, before))
    assert drawn is not None
    points = [(accuracy, d_eff) for _, accuracy, d_eff, _ in arriving]
    expected = [slow_volume(before + points[: place + 1]) for place in range(len(points))]
    at = [round(minute * 60) - 1 for minute in drawn.minutes]
    shown = [drawn.volumes[sum(place >= kept for kept in at) - 1] for place in range(len(points))]
    assert shown == pytest.approx(expected)
    assert at[0] == 0 and at[-1] == len(points) - 1
    changes = [place for place in range(1, len(points) - 1) if place in at]
    assert all(expected[place] != pytest.approx(expected[place - 1]) for place in changes)


def test_trials_epochs_and_minutes_go_along() -> None:
    arriving = [(0, 0.5, 60.0, False), (1, 0.6, 40.0, True), (0, 0.7, 40.0, False), (2, 0.8, 8.0, False)]
    drawn = info(story_of(arriving, []))
    assert drawn is not None
    assert drawn.trials == [0, 0, 1, 1]
    assert drawn.epochs == [5, 10, 15, 20]
    assert drawn.minutes == pytest.approx([1 / 60, 2 / 60, 3 / 60, 4 / 60])
    assert drawn.reference == {"knn_accuracy": 0.0, "d_eff": 128.0}


def test_it_ends_at_the_records_own() -> None:
    story = small_story()
    drawn = info(story)
    assert drawn is not None
    assert drawn.volumes[-1] == pytest.approx(story.record.front.hypervolume())


def test_pauses_between_drivers_count_as_time() -> None:
    settings_ = digits_settings()
    resumed: list[Event] = [
        SweepResumed(settings_.model_dump(mode="json"), {}, START + 6000),
        *proposal(settings_, 3, parameters("mlp"), START + 6000),
        report(3, 5, metrics(0.99, 2.0), START + 6060),
    ]
    drawn = info(small_story(events=resumed))
    assert drawn is not None and drawn.minutes[-1] == pytest.approx(101)


def test_there_is_none_before_anything_arrives_or_before_the_baseline() -> None:
    assert info(SweepStory(opening(digits_settings()))) is None
    waiting = digits_settings('constraints=["d_eff <= 0.5 * baseline"]')
    events = [*opening(waiting), *proposal(waiting, 0, parameters("none"))]
    assert info(SweepStory([*events, report(0, 5, metrics(0.9, 40.0))])) is None


def test_three_panels_show_the_same_volumes() -> None:
    drawn = HypervolumeInfo([1.0, 2.0], [0, 1], [5, 10], [0.5, 3.0], {HOSTILE: 1.0})
    traces = json.loads(str(plot(drawn).to_json()))["data"]
    assert [trace["x"] for trace in traces] == [[0, 1], [5, 10], [0.5, 3.0]]
    assert [trace["y"] for trace in traces] == [[1.0, 2.0]] * 3
    assert {trace["line"]["shape"] for trace in traces} == {"hv"}


def test_trials_that_end_after_the_last_report_are_counted() -> None:
    drawn = info(small_story())
    assert drawn is not None
    assert (drawn.trials[-1], drawn.epochs[-1]) == (3, 60)
    assert drawn.minutes[-1] == pytest.approx((2 * 60 + 50) / 60)
    assert drawn.volumes[-1] == drawn.volumes[-2]
