from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, get_args

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from sweep_events import CONDITIONAL_SPACE, settings_of

from orchestrator.ask_and_tell import Known, Told
from orchestrator.proposals import (
    DIRECTIONS,
    SAMPLERS,
    Proposals,
    distribution,
    low_discrepancy_point,
)
from orchestrator.search_space import Parameter, Value, is_active, to_trial_config
from orchestrator.settings import SamplerKind
from trainables.reports import Direction

NUM_TRIALS = 30
FLAT = {
    "head.kind": {"choice": ["none", "mlp", "monotonic"]},
    "temperature": {"log_uniform": [0.03, 0.5]},
}
"""A space without conditions, for the sampler that takes none."""
DRAWN = [kind for kind in SAMPLERS if kind not in ("gp", "grid", "list")]
"""Samplers that draw from any space for as long as they are asked."""


def result_of(values: Mapping[str, Value]) -> Told:
    """Two values that depend on the parameters."""
    return Told([float(str(values["temperature"])), float(str(values.get("head.depth", 9)))])


def run(
    sampler: str, seed: int = 7, num_trials: int = NUM_TRIALS
) -> tuple[Proposals, list[dict[str, Value]]]:
    """Asks and tells; every fifth trial fails, from the first on, and two are always under way."""
    proposals = Proposals(settings_of(search={"sampler": sampler, "seed": seed}))
    asked = [proposals.ask()]
    for _ in range(num_trials):
        number, values, _ = asked[-1]
        asked.append(proposals.ask())
        if number % 5 == 0:
            proposals.tell_failed(number)
        else:
            proposals.tell(number, result_of(values))
    proposals.tell_failed(asked[-1][0])
    return proposals, [proposal.values for proposal in asked]


def test_samplers_are_those_of_the_settings() -> None:
    assert set(SAMPLERS) == set(get_args(SamplerKind))
    assert set(DIRECTIONS) == set(get_args(Direction))


@pytest.mark.parametrize("sampler", DRAWN)
def test_no_trial_is_left_running(sampler: str) -> None:
    proposals, asked = run(sampler)
    states = proposals.states()
    assert sorted(states) == list(range(len(asked)))
    assert all(states[number] == "FAIL" for number in range(0, NUM_TRIALS, 5))
    assert sum(state == "COMPLETE" for state in states.values()) == NUM_TRIALS * 4 // 5


@pytest.mark.parametrize("sampler", DRAWN)
def test_every_proposal_is_a_point_of_the_space(sampler: str) -> None:
    settings = settings_of()
    for values in run(sampler)[1]:
        existing = [name for name, p in settings.search_space.items() if is_active(p, values)]
        assert sorted(values) == sorted(existing)
        assert all(settings.search_space[name].contains(value) for name, value in values.items())
        to_trial_config(settings.trial, values)


@pytest.mark.parametrize("sampler", DRAWN)
def test_proposals_reach_every_choice(sampler: str) -> None:
    asked = run(sampler)[1]
    assert {values["head.kind"] for values in asked} == {"none", "mlp", "monotonic"}
    assert {"head.depth" in values for values in asked} == {True, False}


@pytest.mark.parametrize("sampler", DRAWN)
def test_the_same_seed_gives_the_same_proposals(sampler: str) -> None:
    assert run(sampler)[1] == run(sampler)[1]


@pytest.mark.parametrize("sampler", DRAWN)
def test_another_seed_gives_other_proposals(sampler: str) -> None:
    assert run(sampler, seed=7, num_trials=3)[1] != run(sampler, seed=8, num_trials=3)[1]


@pytest.mark.parametrize("sampler", DRAWN)
def test_first_trials_come_first_and_complete(sampler: str) -> None:
    first: list[dict[str, Any]] = [
        {"head.kind": "none"},
        {"head.kind": "mlp", "head.depth": 3},
        {"temperature": 0.2},
    ]
    settings = settings_of(first_trials=first, trial={"temperature": 0.05}, search={"sampler": sampler})
    proposals = Proposals(settings)
    assert [proposals.ask()[:2] for _ in first] == [
        (0, {"head.kind": "none", "temperature": 0.05}),
        (1, {"head.kind": "mlp", "head.depth": 3, "temperature": 0.05}),
        (2, {"head.kind": "monotonic", "head.depth": 1, "temperature": 0.2}),
    ]


def test_values_are_told_in_the_objectives_own_directions() -> None:
    proposals = Proposals(settings_of())
    for values in ([0.9, 10.0], [0.8, 20.0], [0.7, 5.0]):
        proposals.tell(proposals.ask()[0], Told(values))
    assert sorted(trial.number for trial in proposals.study.best_trials) == [0, 2]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"choice": ["a", 1, None]}, CategoricalDistribution(["a", 1, None])),
        ({"int": [1, 3]}, IntDistribution(1, 3)),
        ({"uniform": [0, 1]}, FloatDistribution(0.0, 1.0)),
        ({"log_uniform": [0.1, 1]}, FloatDistribution(0.1, 1.0, log=True)),
    ],
)
def test_each_kind_of_parameter_has_its_distribution(data: dict[str, Any], expected: object) -> None:
    assert distribution(Parameter.model_validate(data)) == expected


def test_a_conditional_parameter_may_stand_before_its_parent() -> None:
    space = {
        "head.depth": {"int": [2, 3], "when": {"head.kind": ["mlp"]}},
        "head.kind": {"choice": ["mlp"]},
    }
    values = Proposals(settings_of(search_space=space)).ask()[1]
    assert values["head.kind"] == "mlp"
    assert values["head.depth"] in (2, 3)


def told(number: int, values: Mapping[str, Value]) -> Told | None:
    """What every fourth trial has nothing of; every third one breaks a constraint."""
    if number % 4 == 3:
        return None
    return result_of(values)._replace(excesses={"c": 0.5 if number % 3 == 0 else -0.1})


def ask_and_tell(proposals: Proposals, known: list[Known], num_trials: int) -> None:
    """Goes on where `known` ends, with two trials under way at any time."""
    while len(known) < num_trials:
        number, values, state = proposals.ask()
        known.append(Known(values, state, "running"))
        if number == 0:
            continue
        before = known[number - 1]
        known[number - 1] = before._replace(told=told(number - 1, before.values))
        if (result := known[number - 1].told) is None:
            proposals.tell_failed(number - 1)
        else:
            assert not isinstance(result, str)
            proposals.tell(number - 1, result)


@pytest.mark.parametrize("sampler", DRAWN)
@pytest.mark.parametrize("cut", [1, 2, 5, 17, 31])
def test_a_rebuilt_study_proposes_what_the_first_one_would(sampler: str, cut: int) -> None:
    settings = settings_of(
        search={"sampler": sampler, "seed": 3}, first_trials=[{"head.kind": "none"}, {}, {}]
    )
    whole: list[Known] = []
    ask_and_tell(Proposals(settings), whole, 40)
    again: list[Known] = []
    ask_and_tell(Proposals(settings), again, cut)
    ask_and_tell(Proposals(settings, again), again, 40)
    assert again == whole


@pytest.mark.parametrize("sampler", ["nsga2", "nsga3"])
def test_later_generations_are_rebuilt_too(sampler: str) -> None:
    settings = settings_of(search={"sampler": sampler, "seed": 3, "trials": 300})
    whole: list[Known] = []
    ask_and_tell(Proposals(settings), whole, 180)
    for cut in (60, 130, 170):
        again = whole[:cut]
        # What was known at that moment: the last trial was under way.
        again[-1] = again[-1]._replace(told="running")
        ask_and_tell(Proposals(settings, again), again, 180)
        assert again == whole


def earlier(num_trials: int, space: Mapping[str, Any]) -> list[Known]:
    """What an earlier sweep over the same space came to."""
    settings = settings_of(search={"sampler": "random", "seed": 99}, search_space=space)
    proposals = Proposals(settings)
    asked = [proposals.ask().values for _ in range(num_trials)]
    known = [Known(values, {}, told(number, values)) for number, values in enumerate(asked)]
    return [trial for trial in known if trial.told is not None]


SPACES = {**dict.fromkeys(DRAWN, CONDITIONAL_SPACE), "gp": FLAT}
"""A space for each sampler that draws."""


@pytest.mark.parametrize("sampler", SPACES)
def test_a_study_with_imports_is_rebuilt_too(sampler: str) -> None:
    imported = earlier(80 if sampler.startswith("nsga") else 12, SPACES[sampler])
    settings = settings_of(
        search={"sampler": sampler, "seed": 3},
        search_space=SPACES[sampler],
        first_trials=[{"head.kind": "none"}],
    )
    whole: list[Known] = []
    ask_and_tell(Proposals(settings, imported=imported), whole, 16)
    assert whole[0].values["head.kind"] == "none"
    for cut in (1, 9):
        again: list[Known] = []
        ask_and_tell(Proposals(settings, imported=imported), again, cut)
        ask_and_tell(Proposals(settings, again, imported), again, 16)
        assert again == whole


@pytest.mark.parametrize("sampler", SPACES)
def test_imports_change_what_a_sampler_that_learns_proposes(sampler: str) -> None:
    settings = settings_of(search={"sampler": sampler, "seed": 3}, search_space=SPACES[sampler])
    runs: list[list[Known]] = [[], []]
    for known, imported in zip(runs, ([], earlier(80, SPACES[sampler])), strict=True):
        ask_and_tell(Proposals(settings, imported=imported), known, 5)
    proposed = [[known.values for known in run] for run in runs]
    assert (proposed[0] != proposed[1]) == (sampler not in ("random", "qmc"))


def test_own_trials_are_numbered_from_0_beside_imports() -> None:
    proposals = Proposals(settings_of(), imported=earlier(3, CONDITIONAL_SPACE))
    assert [proposals.ask().number for _ in range(3)] == [0, 1, 2]
    proposals.tell(1, Told([0.9, 3.0]))
    proposals.tell_failed(0)
    assert proposals.states() == {0: "FAIL", 1: "COMPLETE", 2: "RUNNING"}
    assert [trial.values for trial in proposals.study.trials[3:]] == [None, [0.9, 3.0], None]


def test_a_gaussian_process_is_rebuilt_too() -> None:
    settings = settings_of(search={"sampler": "gp", "seed": 3}, search_space=FLAT)
    whole: list[Known] = []
    ask_and_tell(Proposals(settings), whole, 18)
    again: list[Known] = []
    ask_and_tell(Proposals(settings), again, 14)
    ask_and_tell(Proposals(settings, again), again, 18)
    assert again == whole
    assert {known.values["head.kind"] for known in whole} == {"none", "mlp", "monotonic"}


GRID = {
    "head.kind": {"choice": ["none", "mlp"]},
    "head.depth": {"int": [1, 3], "when": {"head.kind": ["mlp"]}},
    "temperature": {"choice": [0.1, 0.2]},
}


def test_a_grid_is_every_point_once_after_the_first_trials() -> None:
    first = {"head.kind": "mlp", "head.depth": 2, "temperature": 0.2}
    settings = settings_of(search_space=GRID, first_trials=[first], search={"sampler": "grid"})
    assert settings.num_trials == 2 + 3 * 2
    proposals = Proposals(settings)
    asked = [proposals.ask().values for _ in range(settings.num_trials)]
    assert asked[0] == first
    expected = [{"head.kind": "none", "temperature": t} for t in (0.1, 0.2)]
    expected += [
        {"head.kind": "mlp", "head.depth": depth, "temperature": t}
        for depth in (1, 2, 3)
        for t in (0.1, 0.2)
    ]
    assert sorted(map(str, asked)) == sorted(map(str, expected))


def test_a_grid_goes_on_where_an_earlier_driver_left_it() -> None:
    settings = settings_of(search_space=GRID, search={"sampler": "grid"})
    proposals = Proposals(settings)
    asked = [proposals.ask() for _ in range(settings.num_trials)]
    known = [Known(proposal.values, proposal.sampler_state, None) for proposal in asked[:3]]
    assert Proposals(settings, known).ask() == asked[3]


def test_a_budget_of_trials_cuts_a_grid_however_large_it_is() -> None:
    space = {"seed": {"int": [0, 10**9]}, "epochs": {"int": [1, 10**9]}}
    settings = settings_of(search_space=space, search={"sampler": "grid", "trials": 5})
    assert settings.num_trials == 5


def test_a_list_is_the_first_trials_and_nothing_else() -> None:
    settings = settings_of(
        first_trials=[{"temperature": 0.1}, {"temperature": 0.2}], search={"sampler": "list"}
    )
    assert settings.num_trials == 2
    proposals = Proposals(settings)
    assert [proposals.ask().values["temperature"] for _ in range(2)] == [0.1, 0.2]
    with pytest.raises(AssertionError, match="the list has ended"):
        proposals.ask()


def test_low_discrepancy_points_fill_each_parameter_evenly() -> None:
    space = {name: Parameter.model_validate(data) for name, data in FLAT.items()}
    space["epochs"] = Parameter.model_validate({"int": [3, 6]})
    points = [low_discrepancy_point(space, 5, index) for index in range(64)]
    assert Counter(values["epochs"] for values in points) == dict.fromkeys([3, 4, 5, 6], 16)
    assert all(21 <= n <= 22 for n in Counter(values["head.kind"] for values in points).values())
    low, high = math.log(0.03), math.log(0.5)
    eighths = [int(8 * (math.log(float(str(v["temperature"]))) - low) / (high - low)) for v in points]
    assert Counter(eighths) == dict.fromkeys(range(8), 8)


@pytest.mark.parametrize(
    ("data", "share", "value"),
    [
        ({"choice": ["a", "b"]}, 0.0, "a"),
        ({"choice": ["a", "b"]}, 0.5, "b"),
        ({"int": [-1, 1]}, 0.0, -1),
        ({"int": [-1, 1]}, 0.999, 1),
        ({"uniform": [-1.0, 3.0]}, 0.25, 0.0),
        ({"log_uniform": [0.01, 1.0]}, 0.5, pytest.approx(0.1)),
    ],
)
def test_quantiles_are_those_of_the_distribution(
    data: dict[str, Any], share: float, value: object
) -> None:
    assert Parameter.model_validate(data).quantile(share) == value
