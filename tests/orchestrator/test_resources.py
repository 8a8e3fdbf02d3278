from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sweep_events import EXAMPLES

from orchestrator.errors import UserError
from orchestrator.resources import concurrent_trials, require_fit
from orchestrator.settings import ResourceSettings

GPU_NODE = {"CPU": 16.0, "GPU": 4.0}


def resources(**data: Any) -> ResourceSettings:
    return ResourceSettings.model_validate(data)


@pytest.mark.parametrize(
    ("asked", "nodes", "num_trials"),
    [
        ({}, [{"CPU": 8.0}], 8),
        ({"cpus": 3}, [{"CPU": 8.0}], 2),
        ({"cpus": 3}, [{"CPU": 8.0}, {"CPU": 8.0}, {"CPU": 2.0}], 4),
        ({"gpus": 1}, [{"CPU": 8.0}], 0),
        ({"gpus": 1}, [GPU_NODE], 4),
        ({"gpus": 0.25}, [GPU_NODE], 16),
        ({"gpus": 0.1}, [{"CPU": 16.0, "GPU": 1.0}], 10),
        ({"gpus": 0.5, "cpus": 4}, [GPU_NODE], 4),
        ({"workers": 2, "gpus": 1}, [GPU_NODE], 2),
        ({"workers": 3, "gpus": 1}, [GPU_NODE, GPU_NODE], 2),
        ({"workers": 8, "gpus": 1}, [GPU_NODE, GPU_NODE], 1),
        ({"workers": 9, "gpus": 1}, [GPU_NODE, GPU_NODE], 0),
        ({"workers": 1, "cpus": 4}, [{"CPU": 8.0}], 2),
        ({"max_concurrent": 2}, [{"CPU": 8.0}], 2),
        ({"max_concurrent": 20}, [{"CPU": 8.0}], 8),
        ({}, [], 0),
        ({}, [{"memory": 1e9}], 0),
    ],
)
def test_trials_at_once_are_those_that_fit(
    asked: dict[str, Any], nodes: list[dict[str, float]], num_trials: int
) -> None:
    assert concurrent_trials(resources(**asked), nodes) == num_trials


@EXAMPLES
@given(st.integers(1, 8), st.integers(0, 4), st.lists(st.integers(0, 32), max_size=4))
def test_what_runs_at_once_never_asks_for_more_than_there_is(
    cpus: int, workers: int, sizes: list[int]
) -> None:
    asked = resources(cpus=cpus, workers=workers)
    num_trials = concurrent_trials(asked, [{"CPU": float(size)} for size in sizes])
    places = sum(size // cpus for size in sizes)
    assert num_trials * max(1, workers) <= places < (num_trials + 1) * max(1, workers)


def test_what_fits_is_accepted() -> None:
    require_fit(resources(cpus=16, gpus=1), [{"CPU": 2.0}, GPU_NODE])


@pytest.mark.parametrize(
    ("asked", "nodes", "fragments"),
    [
        (
            {"cpus": 9},
            [{"CPU": 4.0}, {"CPU": 8.0}],
            ["asks for 9 CPU", "2 node(s)", "largest with 8 CPU; lower resources.cpus"],
        ),
        ({"gpus": 1}, [{"CPU": 8.0}], ["1 CPU and 1 GPU", "1 node(s)", "largest with 8 CPU;"]),
        ({"cpus": 32}, [GPU_NODE], ["asks for 32 CPU", "largest with 16 CPU and 4 GPU"]),
        (
            {"workers": 9, "gpus": 1},
            [GPU_NODE],
            [
                "9 workers with 1 CPU and 1 GPU each",
                "where 4 such workers fit; lower resources.workers or ",
            ],
        ),
        ({}, [], ["0 node(s)", "lower resources.cpus"]),
    ],
)
def test_what_never_fits_is_refused_with_the_largest_node(
    asked: dict[str, Any], nodes: list[dict[str, float]], fragments: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        require_fit(resources(**asked), nodes)
    assert all(fragment in str(caught.value) for fragment in fragments), caught.value


def test_a_cluster_that_others_may_join_is_given_time() -> None:
    with pytest.raises(
        UserError, match=r"lower resources.cpus, or give nodes .* resources.wait_for_nodes"
    ):
        require_fit(resources(cpus=9), [{"CPU": 8.0}], may_grow=True)
    with pytest.raises(UserError, match=r"lower resources.cpus$"):
        require_fit(resources(cpus=9, wait_for_nodes="1m"), [{"CPU": 8.0}], may_grow=True)


@pytest.mark.parametrize(("gpus", "places"), [(0.6, 4), (0.5, 8), (1 / 3, 12), (0.25, 16), (1, 4)])
def test_a_fraction_stays_on_one_gpu(gpus: float, places: int) -> None:
    assert concurrent_trials(ResourceSettings(gpus=gpus), [{"CPU": 64, "GPU": 4}]) == places


def test_the_largest_node_is_the_largest_in_what_was_asked_for() -> None:
    nodes = [{"CPU": 64.0}, {"CPU": 4.0, "GPU": 1.0}]
    with pytest.raises(UserError, match="the largest with 64 CPU"):
        require_fit(ResourceSettings(cpus=128), nodes)


def test_a_final_evaluation_that_never_fits_names_its_own_settings() -> None:
    with pytest.raises(UserError) as caught:
        require_fit(ResourceSettings(cpus=9), [{"CPU": 8.0}], "evaluation", "a final evaluation")
    assert str(caught.value).startswith("evaluation: a final evaluation asks for 9 CPU")
    assert str(caught.value).endswith("lower evaluation.cpus")
    assert caught.value.location == ("evaluation",)
