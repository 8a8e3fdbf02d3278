from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from front_tables import CONFIRMED, HOSTILE, SPEARMAN, THREE, Tags, pairs, row, table
from hypothesis import given, settings
from hypothesis import strategies as st
from stories import SMALL, small_story

from dashboards.figures.front import FrontInfo, info, plot
from dashboards.figures.front_marks import Mark
from dashboards.figures.samples import CELLS
from dashboards.figures.style import head_colour
from dashboards.sweep_page import front_info, story_table
from trainables.reports import Direction

BACKWARDS: dict[str, Direction] = {"d_eff": "min", "knn_accuracy": "max"}


def as_json(figure: go.Figure) -> dict[str, Any]:
    return json.loads(str(figure.to_json()))


def traces(drawn: FrontInfo) -> list[dict[str, Any]]:
    return as_json(plot(drawn))["data"]


def named(drawn: FrontInfo, name: str) -> list[dict[str, Any]]:
    """The traces of this name, in the order in which they are drawn; of the front first itself."""
    return [trace for trace in traces(drawn) if trace.get("name") == name]


def of_story(*overrides: str) -> FrontInfo:
    story = small_story(*overrides)
    return front_info(story, story_table(story))


def test_the_x_axis_of_d_eff_is_logarithmic_with_readable_ticks() -> None:
    axis = as_json(plot(info(THREE)))["layout"]["xaxis"]
    assert axis["type"] == "log"
    assert axis["tickvals"] == [2, 5, 10, 20, 50]
    assert axis["ticktext"] == ["2", "5", "10", "20", "50"]


def test_d_eff_is_logarithmic_along_y_too_and_accuracies_are_not() -> None:
    drawn = info(table(row("t", 0.9, 3.0, True), objectives=BACKWARDS))
    layout = as_json(plot(drawn))["layout"]
    assert (drawn.x.metric, drawn.x.logarithmic) == ("knn_accuracy", False)
    assert "type" not in layout["xaxis"]
    assert (layout["yaxis"]["type"], layout["yaxis"]["tickvals"]) == ("log", [1.5, 2, 3, 4, 5, 6])


def test_the_fronts_line_is_in_order_along_x() -> None:
    front = named(info(THREE), "front")[0]
    drawn = info(THREE).front
    assert drawn["d_eff"].tolist() == [3.0, 10.0, 40.0]
    assert drawn["knn_accuracy"].tolist() == [0.6, 0.9, 0.95]
    assert (front["name"], front["line"]["shape"]) == ("front", "hv")


def test_where_x_is_maximised_a_value_holds_to_the_left() -> None:
    drawn = info(table(row("t", 0.9, 3.0, True), objectives=BACKWARDS))
    assert named(drawn, "front")[0]["line"]["shape"] == "vh"


def test_every_point_is_drawn_by_its_head_and_knows_its_trial() -> None:
    (cloud,), (front, _legend), (targets,) = (named(info(THREE), n) for n in ("mlp", "front", "targets"))
    assert cloud["customdata"] == [["trial-0003", 5]]
    assert targets["customdata"] == [["trial-0001", 5], ["trial-0000", 5], ["trial-0002", 5]]
    assert front["marker"]["color"] == [head_colour(kind) for kind in ("mlp", "mlp", "none")]
    assert cloud["marker"]["color"] == head_colour("mlp")
    (only_in_the_legend,) = named(info(THREE), "none")
    assert only_in_the_legend["x"] == [None]


def test_targets_are_drawn_last_and_no_larger_than_other_points() -> None:
    """Plotly gives a place to the smallest marker there, and of equal ones to the last."""
    drawn = of_story()
    *others, targets = traces(drawn)
    assert (targets["name"], targets["marker"]["opacity"]) == ("targets", 0.0)
    reacting = [trace for trace in others if trace.get("hoverinfo") == "text" and trace["x"] != [None]]
    assert min(trace["marker"]["size"] for trace in reacting) == targets["marker"]["size"]
    (baseline,) = drawn.marks
    assert baseline.point is not None
    wanted = [baseline.point, *zip(drawn.front["trial"], drawn.front["epoch"], strict=True)]
    assert targets["customdata"] == [list(point) for point in wanted]


def test_early_epochs_far_below_are_out_of_the_first_view() -> None:
    rows = [row(f"t{n}", 0.1 + 0.01 * n, 50.0, False) for n in range(20)]
    high = row("best", 0.99, 9.0, True)
    drawn = info(table(high, row("next", 0.95, 5.0, True), *rows))
    assert drawn.view == pytest.approx((0.861, 1.00335))
    assert as_json(plot(drawn))["layout"]["yaxis"]["range"] == list(drawn.view or ())
    assert info(table(high, row("next", 0.95, 5.0, True))).view is None


def test_where_less_is_better_the_first_view_is_cut_off_above() -> None:
    objectives: dict[str, Direction] = {"train_loss": "min", "d_eff": "min"}
    rows = [row("best", 0.9, 9.0, True, train_loss=1.0), row("next", 0.9, 5.0, True, train_loss=1.1)]
    far = row("far", 0.9, 50.0, False, train_loss=4.0)
    assert info(table(*rows, far, objectives=objectives)).view == pytest.approx((0.955, 1.4))


def test_the_front_of_three_objectives_is_no_line() -> None:
    objectives: dict[str, Direction] = {"knn_accuracy": "max", "d_eff": "min", "train_loss": "min"}
    drawn = info(table(row("t", 0.9, 3.0, True, train_loss=1.0), objectives=objectives))
    assert drawn.objectives == list(objectives)
    assert named(drawn, "front")[0]["mode"] == "markers"
    assert drawn.note.startswith("Drawn are two of 3 objectives")
    assert "train_loss = 1" in drawn.points["hover"].tolist()[0]


@pytest.mark.parametrize(
    ("scored_on", "label"),
    [("STSb", "STSb Spearman (validation)"), ("", "Spearman (validation)")],
)
def test_a_correlation_is_called_after_its_pairs(scored_on: str, label: str) -> None:
    points = table(pairs("t", 0.84, 90.0, True), objectives=SPEARMAN)
    drawn = info(replace(points, scored_on=scored_on))
    assert (drawn.y.label, drawn.y.logarithmic) == (label, False)
    found = as_json(plot(drawn))
    assert label == found["layout"]["yaxis"]["title"]["text"]
    assert "accuracy" not in json.dumps([found["data"], found["layout"]])
    assert drawn.points["hover"].tolist()[0].split("<br>")[1:3] == ["spearman = 0.84", "d_eff = 90"]


def test_accuracies_are_not_called_after_pairs() -> None:
    assert info(replace(THREE, scored_on="STSb")).y.label == "5-NN accuracy (validation)"


@pytest.mark.parametrize(
    ("values", "told"), [((0.8203, 0.8203), "is 0.8203;"), ((0.8203, 0.79), "is 0.79 to 0.8203;")]
)
def test_the_untouched_encoder_is_told(values: tuple[float, float], told: str) -> None:
    rows = [
        pairs(f"t{n}", 0.84 - n, 90.0 - n, True, test_untouched_spearman=v)
        for n, v in enumerate((*values, math.nan))
    ]
    drawn = info(table(*rows, objectives=SPEARMAN))
    assert drawn.note.startswith(
        f"The untouched encoder's Spearman correlation on the test pairs {told}"
    )
    bare = [{n: v for n, v in one.items() if n != "test_untouched_spearman"} for one in rows]
    assert info(table(*bare, objectives=SPEARMAN)).note == ""


def test_where_points_coincide_the_fronts_tells_its_name() -> None:
    tied = table(row("trial-0000", 0.9, 3.0, True), row("trial-0001", 0.9, 3.0, False))
    (front,) = named(info(tied), "targets")
    assert [text.split(",")[0] for text in front["hovertext"]] == ["<b>trial-0000</b>"]


def test_a_point_tells_its_configuration_without_what_does_not_exist() -> None:
    values = {"param.head.depth": math.nan, "param.temperature": 0.123456, "param.seed": None}
    (hover,) = info(table(row("trial-0000", 0.9, 3.0, True, **values))).points["hover"]
    assert hover.split("<br>") == [
        "<b>trial-0000</b>, epoch 5",
        "knn_accuracy = 0.9",
        "d_eff = 3",
        "head.kind = mlp",
        "temperature = 0.1235",
    ]


def test_hostile_names_stay_text() -> None:
    objectives: dict[str, Direction] = {HOSTILE: "max", "d_eff": "min"}
    values = {"param.head.kind": HOSTILE, f"param.{HOSTILE}": HOSTILE, HOSTILE: 0.9, "run_id": HOSTILE}
    drawn = info(table(row(HOSTILE, 0.9, 3.0, True, **values), objectives=objectives))
    figure = as_json(plot(drawn))
    texts = [*drawn.points["hover"], *(t["name"] for t in figure["data"])]
    texts += [figure["layout"][axis]["title"]["text"] for axis in ("xaxis", "yaxis")]
    assert {name for text in texts for name in Tags(text).names} == {"b", "br"}
    assert "&lt;script&gt;hostile()" in figure["layout"]["yaxis"]["title"]["text"]


def test_a_hostile_mark_stays_text() -> None:
    drawn = info(THREE)._replace(marks=[Mark(HOSTILE, 3.0, 0.9, HOSTILE, "cross-open")])
    (mark,) = [trace for trace in traces(drawn) if "hostile" in trace.get("name", "")]
    assert Tags(mark["name"]).names == [] and Tags(mark["hovertext"]).names == ["b", "br"]


def test_one_objective_is_drawn_over_epochs() -> None:
    rows = [row("t", 0.5, 3.0, False, epoch=1), row("t", 0.9, 3.0, True, epoch=7)]
    drawn = info(table(*rows, objectives={"knn_accuracy": "max"}))
    assert (drawn.x.metric, drawn.y.metric) == ("epoch", "knn_accuracy")
    assert drawn.front["epoch"].tolist() == [7]
    assert named(drawn, "front")[0]["x"] == {"dtype": "i1", "bdata": "Bw=="}


def test_without_a_head_parameter_all_points_are_of_one_kind() -> None:
    rows = row("t", 0.9, 3.0, True)
    del rows["param.head.kind"]
    assert info(table(rows)).points["kind"].tolist() == ["trial"]


def test_a_sweep_without_points_has_a_figure() -> None:
    drawn = info(table())
    assert (drawn.num_points, len(drawn.front), drawn.region) == (0, 0, None)
    assert [trace["name"] for trace in traces(drawn)] == ["front", "front", "targets"]


def test_constraints_and_the_picked_point_are_named() -> None:
    points = table(
        row("trial-0002", 0.95, 40.0, True, is_picked=True),
        row("trial-0003", 0.5, 3.0, False, is_feasible=False),
    )
    drawn = info(replace(points, constraints=("knn_accuracy >= 0.9",), pick="knee"))
    assert drawn.note == (
        "1 of 2 points hold knn_accuracy >= 0.9. Hollow points break them. "
        "Picked by knee: trial-0002, epoch 5."
    )
    assert list(drawn.picked["trial"]) == ["trial-0002"]
    assert [("breaks" in text) for text in drawn.points["hover"]] == [False, True]
    cloud, front = traces(drawn)[:2]
    assert len(named(drawn, "picked")) == 1
    assert front["marker"]["symbol"] == ["star"]
    assert cloud["marker"]["symbol"] == ["circle-open"]


def test_a_front_that_breaks_the_constraints_says_so() -> None:
    points = table(row("trial-0003", 0.5, 3.0, True, is_feasible=False))
    drawn = info(replace(points, constraints=("knn_accuracy >= 0.9",), pick="knee"))
    assert drawn.note.endswith("Shown as the front is the one that is nearest to it.")


def test_an_imported_point_says_where_it_is_from() -> None:
    own = row("trial-0000", 0.9, 3.0, True, source="")
    other = row("import-0000", 0.8, 2.0, True, source="<earlier>/trial-0007")
    drawn = info(table(own, other))
    hovers = dict(zip(drawn.points["trial"], drawn.points["hover"], strict=True))
    assert hovers["import-0000"].split("<br>")[-1] == "from &lt;earlier&gt;/trial-0007"
    assert "from" not in hovers["trial-0000"]
    picked = replace(table(own, {**other, "is_picked": True}), pick="knee")
    assert info(picked).note == "Picked by knee: import-0000 from <earlier>/trial-0007, epoch 5."


def test_means_and_deviations_under_further_seeds_are_drawn() -> None:
    drawn = info(CONFIRMED).confirmed
    assert drawn[["x", "y", "x_std", "y_std"]].to_numpy().tolist() == [
        [4.0, 0.50, 1.5, 0.0],
        [11.0, 0.90, 1.5, 0.02],
    ]
    (trace,) = named(info(CONFIRMED), "mean under further seeds")
    ties = next(trace for trace in traces(info(CONFIRMED)) if trace.get("line", {}).get("dash") == "dot")
    assert ties["x"] == [3.0, 4.0, None, 10.0, 11.0, None]
    assert ties["y"] == [0.60, 0.50, None, 0.95, 0.90, None]
    assert trace["customdata"] == [["trial-0001", 5], ["trial-0000", 5]]
    assert (trace["error_x"]["array"], trace["error_y"]["array"]) == ([1.5, 1.5], [0.0, 0.02])


def test_a_confirmed_point_tells_what_its_seeds_say() -> None:
    hovers = dict(zip(info(CONFIRMED).points["trial"], info(CONFIRMED).points["hover"], strict=True))
    assert hovers["trial-0000"].split("<br>")[3:6] == [
        "knn_accuracy under 2 further seeds: 0.9 ± 0.02",
        "d_eff under 2 further seeds: 11 ± 1.5",
        "probability to be on the front then: 75%",
    ]
    assert "knn_accuracy under 1 further seeds: 0.5<br>" in hovers["trial-0001"]
    assert "further seeds" not in hovers["trial-0002"]


def test_the_front_has_what_is_confirmed_as_text() -> None:
    front = info(CONFIRMED).front
    assert front["knn_accuracy_spread"].tolist()[1:] == ["0.5", "0.9 ± 0.02"]
    assert front["d_eff_spread"].tolist()[1:] == ["4 ± 1.5", "11 ± 1.5"]
    assert front["d_eff_spread"].isna().tolist() == [True, False, False]


def test_what_is_not_confirmed_has_no_bars() -> None:
    assert len(info(THREE).confirmed) == 0
    assert "further seeds" not in json.dumps(traces(info(THREE)))


def test_one_confirmed_objective_has_bars_along_it_alone() -> None:
    rows = row("t", 0.9, 3.0, True, epoch=7, knn_accuracy_mean=0.8, knn_accuracy_std=0.1, num_seeds=2)
    drawn = info(table({**rows, "front_probability": 1.0}, objectives={"knn_accuracy": "max"}))
    assert drawn.confirmed[["x", "y", "x_std", "y_std"]].to_numpy().tolist() == [[7.0, 0.8, 0.0, 0.1]]


@pytest.mark.parametrize("pick", ["knee", "best d_eff subject to knn_accuracy >= 0.98 * baseline"])
def test_the_baseline_is_marked_whether_it_is_named_or_not(pick: str) -> None:
    drawn = of_story(f"pick={pick}")
    (baseline,) = drawn.marks
    assert baseline == Mark("baseline", 45.0, 0.97, "none", "diamond-open", ("trial-0000", 15))
    (mark,), (targets,) = named(drawn, "baseline"), named(drawn, "targets")
    assert (mark["x"], mark["y"], mark["hoverinfo"]) == ([45.0], [0.97], "skip")
    assert targets["customdata"][0] == ["trial-0000", 15]
    assert targets["hovertext"][0] == "<b>baseline</b><br>trial-0000, epoch 15<br>0.97 at 45"


def test_the_papers_points_are_marked_where_they_have_both_metrics() -> None:
    paper = {"monotonic": {"knn_accuracy": 0.77, "d_eff": 14.0}, "untouched": {"knn_accuracy": 0.8}}
    drawn = info(THREE, paper=paper)
    assert drawn.marks == [Mark("paper: monotonic (test)", 14.0, 0.77, "monotonic", "cross-open")]
    (mark,) = named(drawn, "paper: monotonic (test)")
    assert "customdata" not in mark
    assert (mark["x"], mark["y"], mark["hovertext"]) == (
        [14.0],
        [0.77],
        "<b>paper: monotonic (test)</b><br>0.77 at 14",
    )


@pytest.mark.parametrize(
    ("constraints", "breaks"),
    [
        ('["knn_accuracy >= 0.8"]', lambda accuracy, d_eff: accuracy < 0.8),
        ('["d_eff <= 20"]', lambda accuracy, d_eff: d_eff > 20),
        ('["d_eff >= 20"]', lambda accuracy, d_eff: d_eff < 20),
        (
            '["knn_accuracy >= 0.9", "d_eff <= 22.5"]',
            lambda accuracy, d_eff: accuracy < 0.9 or d_eff > 22.5,
        ),
        ('["1 / (knn_accuracy - knn_accuracy) <= 1"]', lambda accuracy, d_eff: True),
    ],
)
@pytest.mark.parametrize(
    "objectives", ["knn_accuracy: max, d_eff: min", "d_eff: min, knn_accuracy: max"]
)
def test_the_region_is_where_a_constraint_is_broken(
    constraints: str, breaks: Any, objectives: str
) -> None:
    drawn = of_story(f"constraints={constraints}", f"objectives={{{objectives}}}")
    assert drawn.region is not None
    axes = (drawn.x.metric, drawn.y.metric)
    for y, excesses in zip(drawn.region.y, drawn.region.excess, strict=True):
        for x, excess in zip(drawn.region.x, excesses, strict=True):
            place = dict(zip(axes, (x, y), strict=True))
            assert (excess > 0) == breaks(place["knn_accuracy"], place["d_eff"]) and abs(excess) <= 1


def test_the_region_follows_the_baseline() -> None:
    region = of_story('constraints=["knn_accuracy >= 0.9 * baseline"]').region
    assert region is not None
    broken = [excesses[0] > 0 for excesses in region.excess]
    assert broken == [accuracy < 0.9 * SMALL["none"][2][0] for accuracy in region.y]


def test_the_region_is_around_all_that_is_drawn() -> None:
    story = small_story('constraints=["d_eff <= 20"]')
    drawn = info(story_table(story), story.record.front)
    paper = {"none": {"knn_accuracy": 0.1, "d_eff": 125.0}}
    far = info(story_table(story), story.record.front, paper=paper)
    assert drawn.region is not None and far.region is not None
    d_effs = [d_eff for points in SMALL.values() for _, d_eff in points]
    assert min(drawn.region.x) < min(d_effs) and max(d_effs) < max(drawn.region.x) < 125
    assert max(far.region.x) > 125 and min(far.region.y) < 0.1


def test_what_is_not_about_the_planes_metrics_is_not_shaded() -> None:
    assert of_story('constraints=["embedding_bytes <= 64"]').region is None
    both = of_story('constraints=["embedding_bytes <= 64", "d_eff <= 20"]').region
    assert both is not None and both.texts == ["d_eff <= 20"]


def test_while_the_baseline_is_not_known_nothing_is_shaded() -> None:
    story = small_story('constraints=["knn_accuracy >= 0.9 * baseline"]', ended=False)
    story.record.front.baseline = None
    assert front_info(story, story_table(story)).region is None


def test_plotly_shades_what_does_not_hold_its_operation() -> None:
    """plotly.js shades the places that break a constraint; looked at in a browser."""
    contour = traces(of_story('constraints=["d_eff <= 20"]'))[0]
    assert contour["contours"] == {"type": "constraint", "operation": "<=", "value": 0.0}
    assert contour["name"] == "breaks d_eff &lt;= 20"


def many(values: list[tuple[float, float, bool, str, bool]]) -> pd.DataFrame:
    rows = [
        row(f"t{n}", y, x, on_front, is_feasible=holds, **{"param.head.kind": kind})
        for n, (x, y, on_front, kind, holds) in enumerate(values)
    ]
    return info(table(*rows)).points


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 900), st.sampled_from([1.0, 0.2]))
def test_thinning_keeps_the_front_and_one_point_a_cell(seed: int, number_of: int, spread: float) -> None:
    generator = np.random.default_rng(seed)
    x, y = np.exp(spread * generator.normal(3, 1, number_of)), spread * generator.random(number_of)
    values = [
        (float(a), float(b), bool(generator.random() < 0.02), str(kind), bool(holds))
        for a, b, kind, holds in zip(
            x, y, generator.choice(["mlp", "none"], number_of), generator.random(number_of) < 0.8,
            strict=True,
        )
    ]  # fmt: skip
    drawn = many(values)
    assert {f"t{n}" for n, value in enumerate(values) if value[2]} <= set(drawn["trial"])
    if number_of <= CELLS[0]:
        assert len(drawn) == number_of
        return
    places = (np.log(x) - np.log(x).min()) / np.ptp(np.log(x)), (y - y.min()) / np.ptp(y)
    cells = {
        f"t{n}": (*(int(p[n] * (c - 1)) for p, c in zip(places, CELLS, strict=True)), *values[n][3:])
        for n in range(number_of)
    }
    others = [cells[trial] for trial in drawn.loc[~drawn["on_front"], "trial"]]
    assert len(others) == len(set(others))
    assert {cells[trial] for trial in drawn["trial"]} == set(cells.values())


def test_equal_points_are_thinned_to_one() -> None:
    values = [(3.0, 0.9, n == 0, "mlp", True) for n in range(1000)]
    assert many(values)["trial"].tolist() == ["t0"]
