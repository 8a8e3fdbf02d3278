from __future__ import annotations

import json

from front_tables import HOSTILE, Tags
from stories import START, digits_settings, metrics, opening, parameters, proposal, trial

from dashboards.figures.stopping import Ending, StoppingInfo, info, plot
from dashboards.figures.style import STATUS_COLOURS
from dashboards.sweep_story import SweepStory
from orchestrator.events import Event, TrialProposed, TrialStatus

ENDS: list[tuple[TrialStatus, str]] = [
    ("completed", ""),
    ("stopped", "dominated"),
    ("failed", "diverged"),
    ("stopped", "dominated"),
]


def mixed() -> SweepStory:
    """Trials of 1, 2, 0 and 3 reports that ended in each way, one that runs and one that waits."""
    settings = digits_settings()
    events: list[Event] = [*opening(settings)]
    for number, (num_points, end) in enumerate(zip((1, 2, 0, 3), ENDS, strict=True)):
        points = [metrics(0.5, 9.0)] * num_points
        events += trial(settings, number, parameters("mlp"), points, ended=end)
    events += trial(settings, 4, parameters("mlp"), [metrics(0.5, 9.0)], ended=None)
    waiting = proposal(settings, 5, parameters("mlp"), START + 500)[0]
    assert isinstance(waiting, TrialProposed)
    return SweepStory([*events, waiting])


def test_trials_are_told_by_what_ended_them() -> None:
    drawn = info(mixed())
    assert drawn == StoppingInfo(
        [
            Ending("completed", ["trial-0000"], [0], [5], [""]),
            Ending("stopped", ["trial-0001", "trial-0003"], [1, 3], [10, 15], ["dominated"] * 2),
            Ending("failed", ["trial-0002"], [2], [0], ["diverged"]),
            Ending("running", ["trial-0004"], [4], [5], [""]),
            Ending("pending", ["trial-0005"], [5], [0], [""]),
        ],
        max_epochs=60,
    )


def test_there_is_none_before_the_first_trial() -> None:
    assert info(SweepStory(opening(digits_settings()))) is None


def test_marks_have_the_colour_of_the_end_and_know_their_trials() -> None:
    drawn = info(mixed())
    assert drawn is not None
    figure = json.loads(str(plot(drawn).to_json()))
    stopped = figure["data"][1]
    assert (stopped["x"], stopped["y"]) == ([1, 3], [10, 15])
    assert stopped["customdata"] == [["trial-0001", None], ["trial-0003", None]]
    assert stopped["marker"]["color"] == STATUS_COLOURS["stopped"]
    assert stopped["hovertext"][0] == "<b>trial-0001</b>, 10 epochs<br>dominated"
    assert [trace["name"] for trace in figure["data"][:2]] == ["completed (1)", "stopped (2)"]
    assert [shape["y0"] for shape in figure["layout"]["shapes"]] == [60]


def test_hostile_reasons_stay_text() -> None:
    drawn = StoppingInfo([Ending("failed", [HOSTILE], [0], [0], [HOSTILE])], 60)
    (text,) = json.loads(str(plot(drawn).to_json()))["data"][0]["hovertext"]
    assert Tags(text).names == ["b", "br"]
