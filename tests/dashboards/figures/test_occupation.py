from __future__ import annotations

import json

import pytest
from stories import START, digits_settings, metrics, opening, parameters, proposal, report

from dashboards.figures.occupation import OccupationInfo, info, plot
from dashboards.sweep_story import SweepStory
from orchestrator.events import Event, SweepEnded, SweepResumed, TrialEnded, TrialStarted

SETTINGS = digits_settings()


def events_of(*begun: tuple[int, float], ended: list[tuple[int, float]]) -> list[Event]:
    """Trials taken up at a minute each, and those that ended at one."""
    taken = [
        (START + 60 * minute, event)
        for number, minute in begun
        for event in proposal(SETTINGS, number, parameters("mlp"), START + 60 * minute)
    ]
    ends = [
        (START + 60 * minute, TrialEnded(f"trial-{number:04d}", "completed", "", START + 60 * minute))
        for number, minute in ended
    ]
    return [*opening(SETTINGS), *(event for _, event in sorted([*taken, *ends], key=lambda e: e[0]))]


def test_trials_at_the_same_time_are_counted() -> None:
    drawn = info(SweepStory(events_of((0, 1), (1, 2), (2, 5), ended=[(0, 4), (1, 5), (2, 7)])))
    assert drawn is not None
    assert drawn.minutes == pytest.approx([1, 2, 4, 5, 7])
    assert drawn.running == [1, 2, 1, 1, 0]
    assert (drawn.most, drawn.slot_minutes) == (2, pytest.approx(3 + 3 + 2))
    assert drawn.busy_share == pytest.approx(8 / 12)


def test_an_open_trial_goes_on_until_the_latest_event() -> None:
    drawn = info(SweepStory(events_of((0, 0), (1, 1), ended=[(1, 3)])))
    assert drawn is not None
    assert (drawn.minutes, drawn.running) == (pytest.approx([0, 1, 3]), [1, 2, 0])


def test_a_pause_between_two_drivers_is_seen() -> None:
    """The first driver was killed at minute 2, and told nothing of it."""
    killed = report(0, 5, metrics(0.5, 9.0), START + 120)
    resumed = SweepResumed(SETTINGS.model_dump(mode="json"), {}, START + 600)
    again = TrialStarted("trial-0000", START + 660)
    events = [*events_of((0, 0), ended=[]), killed, resumed, again]
    events += [TrialEnded("trial-0000", "completed", "", START + 720)]
    drawn = info(SweepStory([*events, SweepEnded("completed", "", START + 900)]))
    assert drawn is not None
    assert drawn.minutes == pytest.approx([0, 2, 11, 12])
    assert drawn.running == [1, 0, 1, 0]
    assert drawn.busy_share == pytest.approx(3 / 12)


def test_a_trial_that_took_no_time_fills_its_slot() -> None:
    drawn = info(SweepStory(events_of((0, 3), ended=[(0, 3)])))
    assert drawn == OccupationInfo([3.0], [0], 0.0, 0, 1.0)


def test_there_is_none_before_the_first_start() -> None:
    assert info(SweepStory(opening(SETTINGS))) is None


def test_the_line_keeps_a_number_until_the_next() -> None:
    (trace,) = json.loads(str(plot(OccupationInfo([0.0, 2.0], [1, 0], 2.0, 1, 1.0)).to_json()))["data"]
    assert (trace["x"], trace["y"], trace["line"]["shape"]) == ([0.0, 2.0], [1, 0], "hv")
