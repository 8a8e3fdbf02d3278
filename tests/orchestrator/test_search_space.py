from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sweep_events import EXAMPLES

from orchestrator.search_space import (
    Parameter,
    Value,
    check,
    combinations,
    default_of,
    is_active,
    order,
    setting_names,
    to_trial_config,
)
from trainables.config import TrialConfig


def parameter(**data: Any) -> Parameter:
    return Parameter.model_validate(data)


@st.composite
def spaces_without_cycles(draw: st.DrawFn) -> dict[str, Parameter]:
    """Parameters in any order, each with conditions on some that a hidden ranking puts before it."""
    ranking = draw(st.permutations([f"p{index}" for index in range(draw(st.integers(1, 8)))]))
    parents = [
        draw(st.sets(st.sampled_from(ranking[:rank]))) if rank else set() for rank in range(len(ranking))
    ]
    space = {
        name: parameter(choice=[0, 1], when={parent: [1] for parent in sorted(above)})
        for name, above in zip(ranking, parents, strict=True)
    }
    return {name: space[name] for name in sorted(space)}


@EXAMPLES
@given(spaces_without_cycles())
def test_order_puts_parents_first(space: dict[str, Parameter]) -> None:
    ordered = order(space)
    place = {name: index for index, name in enumerate(ordered)}
    assert sorted(ordered) == sorted(space)
    assert all(place[parent] < place[name] for name, p in space.items() for parent in p.when)


@EXAMPLES
@given(spaces_without_cycles(), st.data())
def test_order_refuses_every_cycle(space: dict[str, Parameter], data: st.DataObject) -> None:
    ordered = order(space)
    first, last = sorted(data.draw(st.tuples(*[st.integers(0, len(ordered) - 1)] * 2)))
    for earlier, later in zip(ordered[first:last], ordered[first + 1 : last + 1], strict=True):
        space[later] = parameter(choice=[0, 1], when={earlier: [1]})
    space[ordered[first]] = parameter(choice=[0, 1], when={ordered[last]: [1]})
    with pytest.raises(ValueError, match="form a cycle") as caught:
        order(space)
    assert all(name in str(caught.value) for name in ordered[first : last + 1])


def test_order_keeps_the_files_order_where_nothing_depends() -> None:
    space = {name: parameter(uniform=[0.0, 1.0]) for name in ("b", "a", "c")}
    assert order(space) == ["b", "a", "c"]


@pytest.mark.parametrize(
    ("values", "active"),
    [
        ({"kind": "mlp", "width": 2}, True),
        ({"kind": "none", "width": 2}, False),
        ({"kind": "mlp", "width": 3}, False),
        ({"kind": "mlp"}, False),
        ({}, False),
    ],
)
def test_a_parameter_exists_where_all_its_conditions_hold(
    values: dict[str, Value], active: bool
) -> None:
    conditional = parameter(int=[1, 3], when={"kind": ["mlp", "monotonic"], "width": 2})
    assert is_active(conditional, values) is active


def test_a_parameter_without_condition_always_exists() -> None:
    assert is_active(parameter(uniform=[0.0, 1.0]), {})


@pytest.mark.parametrize(
    ("data", "inside", "outside"),
    [
        ({"choice": ["mlp", "none"]}, ["mlp", "none"], ["cnn", 1, None]),
        ({"choice": [1, 2]}, [1, 2, 2.0], [True, 3, "1"]),
        ({"choice": [True]}, [True], [1, False]),
        ({"choice": [None, 20]}, [None, 20], [0]),
        ({"int": [1, 3]}, [1, 3, 2.0], [0, 4, 1.5, True, "2", None]),
        ({"uniform": [0.5, 1.0]}, [0.5, 0.75, 1], [0.49, 1.01, float("nan"), float("inf"), "1"]),
        ({"log_uniform": [0.01, 1]}, [0.01, 1, 0.1], [0, -0.1, True]),
    ],
)
def test_contains_is_what_can_be_drawn(
    data: dict[str, Any], inside: list[Value], outside: list[Value]
) -> None:
    tested = parameter(**data)
    assert [value for value in inside if not tested.contains(value)] == []
    assert [value for value in outside if tested.contains(value)] == []


def test_every_extreme_is_contained() -> None:
    for data in ({"choice": [1, "a"]}, {"int": [1, 3]}, {"uniform": [0, 1]}, {"log_uniform": [0.1, 1]}):
        tested = parameter(**data)
        assert all(tested.contains(value) for value in tested.extremes())


@pytest.mark.parametrize("name", setting_names())
def test_to_trial_config_changes_one_setting(name: str) -> None:
    base = TrialConfig()
    value = {"head.kind": "mlp", "device": "cpu"}.get(name, default_of(base, name))
    if isinstance(value, bool):
        value = not value
    elif isinstance(value, int | float):
        value += 1
    changed = to_trial_config(base, {name: value})
    assert default_of(changed, name) == value
    assert to_trial_config(changed, {name: default_of(base, name)}) == base


def test_to_trial_config_inverts_default_of() -> None:
    base = to_trial_config(TrialConfig(), {"head.kind": "mlp", "optimizer.head_lr": 0.5, "epochs": 3})
    values = {name: default_of(base, name) for name in setting_names()}
    assert to_trial_config(TrialConfig(), values) == base


@pytest.mark.parametrize("name", ["head", "nothing", "head.nothing", "epochs.more", ""])
def test_default_of_knows_only_single_settings(name: str) -> None:
    with pytest.raises(KeyError):
        default_of(TrialConfig(), name)


def test_to_trial_config_refuses_illegal_values() -> None:
    with pytest.raises(ValidationError, match=r"head\.depth"):
        to_trial_config(TrialConfig(), {"head.depth": 0})


def test_check_lists_every_condition_that_cannot_hold() -> None:
    space = {
        "a": parameter(choice=[1, 2]),
        "b": parameter(choice=[1], when={"a": [3], "missing": [1]}),
        "c": parameter(choice=[1], when={"a": [1, 2]}),
    }
    assert [fault.location for fault in check(space)] == [("b", "when", "a"), ("b", "when", "missing")]


@EXAMPLES
@given(spaces_without_cycles())
def test_combinations_are_all_that_can_be_drawn(space: dict[str, Parameter]) -> None:
    drawn = set()
    for numbers in itertools.product([0, 1], repeat=len(space)):
        wanted = dict(zip(space, numbers, strict=True))
        values: dict[str, Value] = {}
        for name in order(space):
            if is_active(space[name], values):
                values[name] = wanted[name]
        drawn.add(frozenset(values.items()))
    found = [frozenset(values.items()) for values in combinations(space, space)]
    assert len(found) == len(set(found))
    assert set(found) == drawn


def test_combinations_are_of_the_named_parameters_and_their_conditions() -> None:
    space = {
        "a": parameter(int=[1, 3]),
        "b": parameter(choice=["x", "y"], when={"a": [2]}),
        "c": parameter(uniform=[0.0, 1.0]),
    }
    assert list(combinations(space, ["b"])) == [
        {"a": 1},
        {"a": 3},
        {"a": 2, "b": "x"},
        {"a": 2, "b": "y"},
    ]
    assert list(combinations(space, [])) == [{}]
