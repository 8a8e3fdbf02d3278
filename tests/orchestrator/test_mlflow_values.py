"""What is written into MLflow's tags is read back."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.environment import DATA_DIGEST
from orchestrator.events import Event, SearchEnded, SweepEnded, SweepResumed, SweepStarted
from orchestrator.mlflow_values import (
    DriverTimes,
    driver_times,
    environment_tags,
    finite_or_not,
    read_environment,
    read_times,
    write_times,
)

instants = st.one_of(st.none(), st.integers(0, 4_000_000_000_000).map(lambda ms: ms / 1000))


@given(st.lists(st.tuples(instants, instants), max_size=100))
def test_times_are_read_back_to_the_millisecond(rows: list[tuple[float | None, float | None]]) -> None:
    assert read_times(write_times(rows)) == rows


def test_of_too_many_times_the_first_and_the_newest_are_kept_in_a_tag() -> None:
    rows = [(1_721_902_375.0 + n, 1_721_902_375.5 + n, None) for n in range(1000)]
    text = write_times(rows)
    assert len(text) <= 5000
    assert read_times(text) == [rows[0], *rows[901:]]


def test_each_driver_has_its_times() -> None:
    events: list[Event] = [
        SweepStarted("s", {}, {}, 1.0),
        SearchEnded("done", 2.0),
        SweepEnded("completed", "done", 3.0),
        SweepResumed({}, {}, 4.0),
    ]
    assert driver_times(events) == [DriverTimes(1.0, 2.0, 3.0), DriverTimes(4.0)]


def test_an_environment_is_read_back_from_tags() -> None:
    environment = {
        "python": "3.11",
        "scikit-learn": "1.9",
        "git_commit": "abc-dirty",
        "data": "data from a place",
        "data_order": "original",
        f"{DATA_DIGEST}dataset snli, data.source /a b": "d1",
        f"{DATA_DIGEST}dataset cifar10": "d2",
    }
    tags = environment_tags(environment)
    assert read_environment({**tags, "status": "running"}) == environment
    assert not any(set(name) & set(",()=") for name in tags)  # MLflow refuses them


@pytest.mark.parametrize("value", [0.0, -1.5, math.inf, -math.inf])
def test_infinity_is_read_back_from_a_database_that_has_none(value: float) -> None:
    stored = max(min(value, 1.7976931348623157e308), -1.7976931348623157e308)
    assert finite_or_not(stored) == value
    assert math.isnan(finite_or_not(math.nan))
