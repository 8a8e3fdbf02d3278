from __future__ import annotations

import json

from front_tables import HOSTILE, Tags, row, table
from stories import SMALL, small_story

from dashboards.figures.style import head_colour
from dashboards.figures.trajectories import MAX_OTHERS, Trajectory, info, plot
from dashboards.sweep_page import story_table

TWO = table(
    row("trial-0000", 0.9, 4.0, True, epoch=10),
    row("trial-0000", 0.8, 6.0, False, epoch=5),
    row("trial-0001", 0.5, 9.0, False, epoch=5, **{"param.head.kind": "none"}),
    row("trial-0001", 0.6, 8.0, False, epoch=7, **{"param.head.kind": "none"}),
    row("trial-0002", 0.5, 9.0, False, epoch=5),
)


def test_each_trial_goes_from_epoch_to_epoch() -> None:
    drawn = info(TWO)
    assert drawn.trajectories == [
        Trajectory("trial-0000", "mlp", True, [5, 10], [6.0, 4.0], [0.8, 0.9]),
        Trajectory("trial-0001", "none", False, [5, 7], [9.0, 8.0], [0.5, 0.6]),
    ]
    assert drawn.num_trials == 3


def test_a_storys_ways_are_its_reports() -> None:
    ways = info(story_table(small_story())).trajectories
    points = [list(zip(way.y, way.x, strict=True)) for way in ways]
    assert points == list(SMALL.values())


def test_of_many_all_on_the_front_are_drawn() -> None:
    rows = [
        row(f"t{n:04d}", 0.5, float(epoch), n % 100 == 0 and epoch == 1, epoch=epoch)
        for n in range(500)
        for epoch in (1, 2)
    ]
    drawn = info(table(*rows))
    on_front = {way.trial for way in drawn.trajectories if way.on_front}
    assert on_front == {f"t{n:04d}" for n in range(0, 500, 100)}
    assert len(drawn.trajectories) == len(on_front) + MAX_OTHERS and drawn.num_trials == 500


def test_ways_are_apart_and_each_point_knows_its_epoch() -> None:
    faint, strong = json.loads(str(plot(info(TWO)).to_json()))["data"]
    assert (faint["x"], faint["y"]) == ([9.0, 8.0, None], [0.5, 0.6, None])
    assert strong["customdata"] == [["trial-0000", 5], ["trial-0000", 10], None]
    assert strong["hovertext"] == [
        "<b>trial-0000</b>, epoch 5<br>knn_accuracy = 0.8<br>d_eff = 6",
        "<b>trial-0000</b>, epoch 10<br>knn_accuracy = 0.9<br>d_eff = 4",
        "",
    ]
    assert [t["line"]["color"] for t in (faint, strong)] == [head_colour("none"), head_colour("mlp")]
    assert (faint["name"], strong["name"]) == ("none", "mlp, on the front")


def test_hostile_names_stay_text() -> None:
    kind = {"param.head.kind": HOSTILE}
    drawn = info(table(*(row(HOSTILE, 0.9, 3.0, True, epoch=n, **kind) for n in (1, 2))))
    (trace,) = json.loads(str(plot(drawn).to_json()))["data"]
    assert {name for text in trace["hovertext"] for name in Tags(text).names} == {"b", "br"}
    assert Tags(trace["name"]).names == []


def test_without_points_there_are_none() -> None:
    assert (info(table()).trajectories, info(table()).num_trials) == ([], 0)
