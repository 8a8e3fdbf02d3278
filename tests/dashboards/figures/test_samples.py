from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dashboards.figures.samples import some_of


@given(st.integers(0, 60), st.integers(1, 40))
def test_some_of_many_are_as_many_as_wanted_in_their_order(num_items: int, at_most: int) -> None:
    items = list(range(num_items))
    some = some_of(items, at_most)
    assert some == sorted(set(some))
    assert len(some) == min(num_items, at_most) and set(some) <= set(items)
    assert some_of(items, at_most) == some


def test_no_kind_of_items_in_turn_is_lost() -> None:
    assert {item % 3 for item in some_of(range(3000), 100)} == {0, 1, 2}
