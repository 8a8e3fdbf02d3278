from __future__ import annotations

import json

import pytest
from front_tables import row, table
from stories import digits_settings, metrics, opening, parameters, small_story, trial

from dashboards.figures.head_kinds import HeadKindsInfo, info, plot
from dashboards.figures.style import head_colour
from dashboards.sweep_page import story_table
from dashboards.sweep_story import SweepStory
from orchestrator.pareto import hypervolume


def of(story: SweepStory) -> HeadKindsInfo:
    drawn = info(story_table(story), story.record)
    assert drawn is not None
    return drawn


def test_each_kind_has_its_own_front() -> None:
    mlp, monotonic, none = of(small_story()).kinds
    assert [kind.kind for kind in (mlp, monotonic, none)] == ["mlp", "monotonic", "none"]
    assert (none.x, none.y) == ([40.0, 44.0, 45.0], [0.90, 0.95, 0.97])
    assert (mlp.x, mlp.y) == ([20.0, 22.0, 24.0, 30.0], [0.70, 0.90, 0.93, 0.94])
    assert (monotonic.best, monotonic.x_at_best, monotonic.num_trials) == (0.91, 9.0, 1)


def test_points_on_the_sweeps_front_are_counted() -> None:
    story = small_story()
    counts = {kind.kind: kind.num_on_front for kind in of(story).kinds}
    kinds = [story.record.trial(p.trial).config["head"]["kind"] for p in story.record.front]
    assert counts == {kind: kinds.count(kind) for kind in ("none", "mlp", "monotonic")}


def test_a_kinds_hypervolume_is_of_its_front_alone() -> None:
    (kind,) = (kind for kind in of(small_story()).kinds if kind.kind == "none")
    points = [(-0.90, 40.0), (-0.95, 44.0), (-0.97, 45.0)]
    assert kind.hypervolume == pytest.approx(hypervolume(points, (0.0, 128.0)))
    assert kind.hypervolume == pytest.approx(0.90 * 88 + 0.05 * 84 + 0.02 * 83)


def test_only_what_holds_the_constraints_counts() -> None:
    drawn = {kind.kind: kind for kind in of(small_story('constraints=["d_eff <= 22"]')).kinds}
    assert drawn["mlp"].x == [20.0, 22.0] and drawn["mlp"].best == 0.90
    assert drawn["mlp"].hypervolume == pytest.approx(0.7 * 108 + 0.2 * 106)


def test_a_kind_of_which_nothing_holds_them_has_no_volume() -> None:
    drawn = {kind.kind: kind for kind in of(small_story('constraints=["d_eff <= 22"]')).kinds}
    assert drawn["none"].hypervolume == 0.0
    assert drawn["none"].x == [40.0, 44.0, 45.0]


def test_one_objective_has_one_best_point_each() -> None:
    drawn = of(small_story("objectives={d_eff: min}"))
    assert {kind.kind: (kind.x, kind.y) for kind in drawn.kinds} == {
        "none": ([5], [40.0]),
        "mlp": ([5], [20.0]),
        "monotonic": ([5], [2.0]),
    }


def test_there_is_no_comparison_of_one_kind() -> None:
    settings = digits_settings()
    story = SweepStory([*opening(settings), *trial(settings, 0, parameters("mlp"), [metrics(0.9, 9.0)])])
    assert info(story_table(story), story.record) is None
    assert info(table(), story.record) is None
    fixed = {name: v for name, v in row("t", 0.9, 3.0, True).items() if name != "param.head.kind"}
    assert info(table(fixed), story.record) is None


def test_each_kind_is_a_line_of_its_colour() -> None:
    traces = json.loads(str(plot(of(small_story())).to_json()))["data"]
    assert [trace["name"] for trace in traces] == ["mlp", "monotonic", "none"]
    assert [trace["line"]["color"] for trace in traces] == [head_colour(t["name"]) for t in traces]
    assert traces[1]["x"] == [2.0, 4.0, 7.0, 9.0] and traces[1]["y"] == [0.30, 0.60, 0.85, 0.91]
    assert {(trace["mode"], trace["line"]["shape"]) for trace in traces} == {("lines+markers", "hv")}


def test_fronts_of_three_objectives_are_no_lines() -> None:
    story = small_story("objectives.train_loss=min", "reference_point={train_loss: 3.0}")
    traces = json.loads(str(plot(of(story)).to_json()))["data"]
    assert {trace["mode"] for trace in traces} == {"markers"}
