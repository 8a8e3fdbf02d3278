from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from front_tables import HOSTILE, Tags
from stories import digits_settings, metrics, opening, parameters, trial

from dashboards.figures.importance import (
    MAX_TRIALS,
    MIN_TRIALS,
    ImportanceInfo,
    ParameterImportance,
    info,
    plot,
)
from dashboards.sweep_story import SweepStory
from orchestrator.search_space import Value

Values = Callable[[Mapping[str, Value]], tuple[float, float]]
KINDS = ("none", "mlp", "monotonic")


def story_of(num_trials: int, values: Values) -> SweepStory:
    """Trials with one epoch whose accuracy and d_eff follow from the parameters alone."""
    settings = digits_settings()
    generator = np.random.default_rng(1)
    events = opening(settings)
    for number in range(num_trials):
        drawn = parameters(
            KINDS[number % 3],
            temperature=float(np.exp(generator.uniform(math.log(0.03), math.log(0.5)))),
            optimizer__head_lr=float(np.exp(generator.uniform(math.log(5e-4), math.log(8e-3)))),
        )
        if drawn["head.kind"] != "none":
            drawn["head.width_ratio"] = float(generator.choice([0.5, 1.0, 2.0, 4.0]))
        events += trial(settings, number, drawn, [metrics(*values(drawn))])
    return SweepStory(events)


def shares(story: SweepStory) -> dict[str, dict[str, float]]:
    drawn = info(story)
    assert drawn is not None
    return {one.parameter: one.shares for one in drawn.parameters}


def of_temperature(drawn: Mapping[str, Value]) -> float:
    temperature = drawn["temperature"]
    assert isinstance(temperature, float)
    return 0.9 - 0.1 * abs(math.log(temperature / 0.1))


def test_what_alone_decides_has_nearly_all() -> None:
    found = shares(
        story_of(60, lambda drawn: (of_temperature(drawn), 2.0 ** len(str(drawn["head.kind"]))))
    )
    assert found["temperature"]["knn_accuracy"] > 0.9
    assert found["head.kind"]["d_eff"] > 0.9


def test_a_conditional_parameter_is_judged_where_it_exists() -> None:
    """The width decides among the trials with a head, however far off those without one are."""

    def values(drawn: Mapping[str, Value]) -> tuple[float, float]:
        width = drawn.get("head.width_ratio")
        return (0.1, 100.0) if width is None else (0.9, 4.0 * float(str(width)))

    drawn = info(story_of(60, values))
    assert drawn is not None
    by_name = {one.parameter: one for one in drawn.parameters}
    assert by_name["head.width_ratio"].shares["d_eff"] > 0.9
    assert by_name["head.width_ratio"].num_trials == 40
    assert (by_name["head.kind"].num_trials, drawn.num_trials) == (60, 60)


def test_sizes_are_judged_by_their_ratios() -> None:
    """In components the largest tenth would be nearly all of the variation."""

    def values(drawn: Mapping[str, Value]) -> tuple[float, float]:
        is_wide = drawn["head.kind"] == "none"
        return 0.5, (64.0 if is_wide else 1.0) * 16 * math.exp(of_temperature(drawn) * 10 - 9)

    logarithms = shares(story_of(60, values))
    assert logarithms["temperature"]["d_eff"] > 0.01
    assert logarithms["head.kind"]["d_eff"] < 0.99


def test_shares_add_up_over_what_the_same_trials_have() -> None:
    found = shares(story_of(60, lambda drawn: (of_temperature(drawn), 9.0 * len(drawn))))
    everywhere = ("head.kind", "temperature", "optimizer.head_lr")
    assert sum(found[name]["knn_accuracy"] for name in everywhere) == pytest.approx(1.0)


def test_what_never_varies_is_left_out() -> None:
    found = shares(story_of(30, lambda drawn: (of_temperature(drawn), 9.0)))
    assert "optimizer.encoder_lr_ratio" not in found and "head.depth" not in found


@pytest.mark.parametrize("rounding", [0.0, 1e-16])
def test_an_objective_that_never_varies_has_no_shares(rounding: float) -> None:
    found = shares(story_of(30, lambda drawn: (0.5 + rounding * len(drawn), 9.0)))
    assert {share for one in found.values() for share in one.values()} == {0.0}


def test_too_few_trials_say_nothing() -> None:
    assert info(story_of(MIN_TRIALS - 1, lambda drawn: (of_temperature(drawn), 9.0))) is None
    assert info(story_of(MIN_TRIALS, lambda drawn: (of_temperature(drawn), 9.0))) is not None


def test_trials_from_outside_the_search_space_are_left_out() -> None:
    settings = digits_settings()
    story = story_of(MIN_TRIALS, lambda drawn: (of_temperature(drawn), 9.0))
    far = parameters("none", temperature=9.0)
    for event in trial(settings, MIN_TRIALS, far, [metrics(0.1, 9.0)]):
        story.apply(event)
    drawn = info(story)
    assert drawn is not None and drawn.num_trials == MIN_TRIALS


def test_where_few_have_a_head_its_parameters_are_not_judged() -> None:
    """Of 21 trials 14 have a head."""
    assert set(shares(story_of(21, lambda drawn: (of_temperature(drawn), 9.0)))) == {
        "head.kind",
        "temperature",
        "optimizer.head_lr",
    }


def test_the_most_important_for_the_first_objective_is_last() -> None:
    drawn = info(story_of(60, lambda drawn: (of_temperature(drawn), 9.0)))
    assert drawn is not None
    first = [one.shares["knn_accuracy"] for one in drawn.parameters]
    assert first == sorted(first) and drawn.parameters[-1].parameter == "temperature"


def test_of_many_trials_some_are_judged() -> None:
    drawn = info(story_of(MAX_TRIALS + 30, lambda drawn: (of_temperature(drawn), 9.0)))
    assert drawn is not None and drawn.num_trials == MAX_TRIALS + 30
    assert max(one.num_trials for one in drawn.parameters) == MAX_TRIALS


def test_the_same_story_has_the_same_shares() -> None:
    story = story_of(20, lambda drawn: (of_temperature(drawn), 9.0))
    assert info(story) == info(story)


def test_each_objective_has_bars_of_its_shares() -> None:
    one = ParameterImportance("head.kind", 40, {"knn_accuracy": 0.25, "d_eff": 0.75})
    drawn = ImportanceInfo([one], ["knn_accuracy", "d_eff"], 60)
    accuracy, d_eff = json.loads(str(plot(drawn).to_json()))["data"]
    assert (accuracy["name"], accuracy["x"], d_eff["x"]) == ("knn_accuracy", [0.25], [0.75])
    assert accuracy["y"] == ["head.kind<br><sub>40 trials</sub>"]
    assert accuracy["marker"]["color"] != d_eff["marker"]["color"]


def test_no_objective_is_left_out_and_hostile_names_stay_text() -> None:
    names = [f"{HOSTILE}{number}" for number in range(8)]
    one = ParameterImportance(HOSTILE, 40, dict.fromkeys(names, 0.1))
    traces = json.loads(str(plot(ImportanceInfo([one], names, 60)).to_json()))["data"]
    assert len(traces) == 8
    texts = [text for trace in traces for text in (*trace["y"], trace["name"], trace["hovertemplate"])]
    assert {tag for text in texts for tag in Tags(text).names} == {"br", "sub", "extra"}
