from __future__ import annotations

import json
import math
from typing import Any

import pytest
from front_tables import HOSTILE, Tags
from stories import (
    digits_settings,
    imported,
    large_events,
    metrics,
    opening,
    parameters,
    small_story,
    trial,
)

from dashboards.figures.parallel_coordinates import (
    MAX_LINES,
    Dimension,
    ParallelInfo,
    _categories,
    _labels,
    info,
    plot,
)
from dashboards.sweep_story import SweepStory


def dimensions(story: SweepStory) -> dict[str, Dimension]:
    drawn = info(story)
    assert drawn is not None
    return {dimension.label: dimension for dimension in drawn.dimensions}


def story_of(*drawn: dict[str, Any]) -> SweepStory:
    settings = digits_settings()
    events = opening(settings)
    for number, values in enumerate(drawn):
        events += trial(settings, number, values, [metrics(0.5 + number / 10, 10.0**number)])
    return SweepStory(events)


def test_a_line_goes_through_parameters_and_then_objectives() -> None:
    drawn = info(small_story())
    assert drawn is not None
    space = [name.rpartition(".")[2] for name in digits_settings().search_space]
    assert [dimension.label for dimension in drawn.dimensions] == [*space, "knn_accuracy", "d_eff"]
    assert {len(dimension.places) for dimension in drawn.dimensions} == {3}
    assert (drawn.num_lines, drawn.num_trials) == (3, 3)


def test_a_line_is_of_the_point_that_stands_for_its_trial() -> None:
    story = small_story()
    drawn = info(story)
    assert drawn is not None
    representatives = [story.record.front.representative(t) for t in story.record.trials.values()]
    assert drawn.colours == [p and p.metrics["knn_accuracy"] for p in representatives]
    assert drawn.dimensions[-2].places == drawn.colours
    assert (drawn.coloured_by, drawn.is_maximised) == ("knn_accuracy", True)


def test_categories_are_in_the_order_of_the_search_space() -> None:
    kind = dimensions(small_story())["kind"]
    assert kind == Dimension(
        "kind", [0.0, 1.0, 2.0], [0.0, 1.0, 2.0], ["none", "mlp", "monotonic"], (0.0, 2.0)
    )


def test_a_trial_without_a_parameter_goes_below_those_with_it() -> None:
    depth = dimensions(story_of(parameters("none"), parameters("mlp", head__depth=2), parameters("mlp")))
    none, two, one = depth["depth"].places
    assert none < one < two
    assert depth["depth"].texts == ["absent", "1", "2"]
    assert depth["depth"].ticks == [none, one, two] and depth["depth"].ends == (none, two)


def test_a_parameter_that_no_trial_has_is_absent_everywhere() -> None:
    depth = dimensions(story_of(parameters("none"), parameters("none")))["depth"]
    assert len(set(depth.places)) == 1 and depth.texts == ["absent"]
    assert depth.ends[0] < depth.places[0] < depth.ends[1]


def test_a_logarithmic_range_is_drawn_by_its_logarithm_with_round_ticks() -> None:
    drawn = [parameters("mlp", temperature=t) for t in (0.03, 0.1, 0.3)]
    temperature = dimensions(story_of(*drawn))["temperature"]
    assert temperature.places == pytest.approx([math.log10(t) for t in (0.03, 0.1, 0.3)])
    assert temperature.texts == ["0.05", "0.1", "0.2"]
    assert temperature.ticks == pytest.approx([math.log10(t) for t in (0.05, 0.1, 0.2)])


def test_d_eff_is_logarithmic_and_accuracy_is_not() -> None:
    found = dimensions(story_of(*(parameters("mlp") for _ in range(3))))
    assert found["d_eff"].places == pytest.approx([0.0, 1.0, 2.0])
    assert found["knn_accuracy"].places == [0.5, 0.6, 0.7]
    assert found["knn_accuracy"].texts == ["0.5", "0.55", "0.6", "0.65", "0.7"]


def test_values_that_look_alike_are_apart() -> None:
    shown = _categories("x", [1, "1", True, "absent"], [True, "1", 1, "absent", None])
    assert shown.places == [2.0, 1.0, 0.0, 3.0]
    assert shown.texts == ["True", "1", "1", "absent", "None"]


def test_what_is_no_choice_of_the_space_stands_behind_them() -> None:
    assert _categories("x", [3, 2.0], [1, 2]).places == [2.0, 1.0]


def test_of_many_trials_those_on_the_front_are_drawn() -> None:
    story = SweepStory(large_events(MAX_LINES + 300, 1))
    drawn = info(story)
    assert drawn is not None
    assert MAX_LINES <= drawn.num_lines < drawn.num_trials == MAX_LINES + 300
    on_front = {point.metrics["knn_accuracy"] for point in story.record.front}
    assert on_front <= set(drawn.colours)


def test_imported_trials_have_lines_too() -> None:
    story = small_story(events=[imported(0, parameters("mlp"), (0.5, 9.0))])
    drawn = info(story)
    assert drawn is not None and drawn.num_trials == 4


def test_there_is_none_before_the_first_point() -> None:
    assert info(SweepStory(opening(digits_settings()))) is None


def test_the_axes_are_plotlys_dimensions() -> None:
    shown = Dimension(HOSTILE, [0.0, 1.0], [0.0], [HOSTILE], (0.0, 1.0))
    drawn = ParallelInfo([shown], [0.5, 0.6], HOSTILE, False, 2, 2)
    (trace,) = json.loads(str(plot(drawn).to_json()))["data"]
    (dimension,) = trace["dimensions"]
    assert (dimension["values"], dimension["range"]) == ([0.0, 1.0], [0.0, 1.0])
    assert (trace["line"]["color"], trace["line"]["reversescale"]) == ([0.5, 0.6], True)
    texts = [dimension["label"], *dimension["ticktext"], trace["line"]["colorbar"]["title"]["text"]]
    assert [Tags(text).names for text in texts] == [[], [], []]


def test_parameters_of_one_name_are_told_by_their_groups() -> None:
    assert _labels(["head.kind", "optimizer.head_lr", "warmup.head_lr"]) == {
        "head.kind": "kind",
        "optimizer.head_lr": "optimizer.head_lr",
        "warmup.head_lr": "warmup.head_lr",
    }
