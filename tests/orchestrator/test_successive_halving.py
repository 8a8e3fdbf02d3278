from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.pareto import dominates
from orchestrator.successive_halving import RungPoint, SuccessiveHalving, place, rung_epochs

Rung = list[tuple[float, ...]]
THOUSANDS = settings(max_examples=3000, deadline=None)
HUNDREDS = settings(max_examples=400, deadline=None)
FACTORS = st.sampled_from([2.0, 2.5, 3.0, 4.0, 8.0])

rungs = st.integers(1, 3).flatmap(
    lambda width: st.lists(st.tuples(*[st.integers(0, 6).map(float)] * width), min_size=1, max_size=24)
)
"""On a coarse grid, so that ties and equal points are common; the last is the newcomer."""


def halving(**changes: float) -> SuccessiveHalving:
    rule = {"grace_epochs": 3, "reduction_factor": 3.0, "max_rung_size": 100, **changes}
    return SuccessiveHalving(**rule)


def point(*values: float) -> RungPoint:
    return RungPoint(values, {})


@THOUSANDS
@given(rungs, FACTORS)
def test_a_point_that_nothing_dominates_is_never_stopped(rung: Rung, factor: float) -> None:
    *others, newcomer = rung
    if not any(dominates(other, newcomer) for other in others):
        assert place(rung).goes_on(factor)


@THOUSANDS
@given(rungs, FACTORS)
def test_one_that_more_than_half_of_a_full_rung_dominate_is_stopped(rung: Rung, factor: float) -> None:
    *others, newcomer = rung
    if len(rung) >= factor and sum(dominates(o, newcomer) for o in others) > len(others) / 2:
        assert not place(rung).goes_on(factor)


references = st.tuples(*[st.integers(-1, 7).map(float)] * 3)


@HUNDREDS
@given(rungs, references, FACTORS)
def test_a_point_that_nothing_dominates_within_the_reference_is_never_stopped(
    rung: Rung, reference: tuple[float, ...], factor: float
) -> None:
    *others, newcomer = rung
    limits = reference[: len(newcomer)]

    def lack(point: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(map(max, point, limits))

    if not any(dominates(o, newcomer) or dominates(lack(o), lack(newcomer)) for o in others):
        assert place(rung, reference=limits).goes_on(factor)


@HUNDREDS
@given(rungs, references, FACTORS)
def test_beside_a_reference_too_one_that_more_than_half_dominate_is_stopped(
    rung: Rung, reference: tuple[float, ...], factor: float
) -> None:
    *others, newcomer = rung
    if len(rung) >= factor and sum(dominates(o, newcomer) for o in others) > len(others) / 2:
        assert not place(rung, reference=reference[: len(newcomer)]).goes_on(factor)


@HUNDREDS
@given(rungs)
def test_a_reference_that_nothing_is_beyond_changes_nothing(rung: Rung) -> None:
    assert place(rung, reference=[6.0] * len(rung[0])) == place(rung)


@HUNDREDS
@given(rungs, references, st.lists(st.sampled_from([1e-6, 0.5, 3.0, 1e6]), min_size=3, max_size=3))
def test_an_objectives_unit_does_not_matter_beside_a_reference_in_it(
    rung: Rung, reference: tuple[float, ...], scales: list[float]
) -> None:
    *scaled, limits = [
        tuple(v * s + s for v, s in zip(p, scales, strict=False))
        for p in [*rung, reference[: len(rung[0])]]
    ]
    assert place(scaled, reference=limits) == place(rung, reference=reference[: len(rung[0])])


def test_of_two_points_beyond_the_reference_the_one_that_lacks_less_is_better() -> None:
    rung = [(7.0, 3.0), (9.0, 0.0)]
    assert place(rung).rank == 0
    assert place(rung, reference=(5.0, 10.0)).rank == 1
    assert place([(9.0, 0.0), (7.0, 3.0)], reference=(5.0, 10.0)).rank == 0
    assert place([(7.0, 3.0), (7.0, 0.0)], reference=(5.0, 10.0)).rank == 0, (
        "as much, and better beside it"
    )
    assert place([(7.0, 3.0), (0.0, 12.0)], reference=(5.0, 10.0)).rank == 0, "another objective"


def test_a_point_beyond_the_reference_comes_after_all_within_it() -> None:
    within, beyond = [(1.0, 9.0), (2.0, 9.5)], [(9.0, 0.0), (9.5, 1.0)]
    assert place([*within, *beyond]).rank == 1
    assert place([*within, *beyond], reference=(5.0, 10.0)) == (3, 3, 4)
    assert place([*beyond, *within], reference=(5.0, 10.0)) == (1, 1, 4)


@HUNDREDS
@given(rungs, st.lists(st.sampled_from([1e-6, 0.5, 3.0, 1e6]), min_size=3, max_size=3))
def test_an_objectives_unit_does_not_matter(rung: Rung, scales: list[float]) -> None:
    scaled = [tuple(v * s + s for v, s in zip(p, scales, strict=False)) for p in rung]
    assert place(scaled) == place(rung)


@HUNDREDS
@given(rungs, st.permutations(range(3)), st.randoms(use_true_random=False))
def test_neither_the_order_of_objectives_nor_that_of_the_others_matters(
    rung: Rung, axes: list[int], random: object
) -> None:
    *others, newcomer = rung
    random.shuffle(others)  # pyright: ignore[reportAttributeAccessIssue]
    order = [axis for axis in axes if axis < len(newcomer)]
    turned = [tuple(p[axis] for axis in order) for p in [*others, newcomer]]
    assert place(turned) == place(rung)


@HUNDREDS
@given(rungs)
def test_equal_points_have_equal_places(rung: Rung) -> None:
    *others, newcomer = rung
    first = place([*others, newcomer, newcomer])
    assert first.num_better == place(rung).num_better
    assert first.rank == place(rung).rank


@HUNDREDS
@given(rungs, FACTORS)
def test_whoever_is_better_goes_on_where_a_worse_one_does(rung: Rung, factor: float) -> None:
    *others, newcomer = rung
    better = [tuple(v - 1 for v in newcomer)]
    if place(rung).goes_on(factor):
        assert place([*others, *better]).goes_on(factor)


@pytest.mark.parametrize(("newcomer", "num_better"), [(2.5, 2), (0.5, 0), (9.0, 5), (3.0, 2)])
def test_with_one_objective_better_is_smaller(newcomer: float, num_better: int) -> None:
    rung = [(1.0,), (2.0,), (3.0,), (4.0,), (5.0,), (newcomer,)]
    assert place(rung).num_better == num_better


def test_inside_a_front_the_larger_contribution_is_better() -> None:
    front = [(0.0, 4.0), (1.0, 3.0), (4.0, 0.0)]
    a, b, c = (1.0, 9.0), (2.0, 8.0), (8.0, 7.0)
    # In quantiles (1/4, 1), (2/4, 4/5) and (1, 3/5); in the box up to 1.1 they contribute
    # 1/4 x 1/10, 1/2 x 1/5 and 1/10 x 1/5.
    places = [place([*front, *others]).num_better for others in ((b, c, a), (c, a, b), (a, b, c))]
    assert places == [3 + 1, 3 + 0, 3 + 2]


def test_whoever_breaks_a_constraint_comes_after_all_that_hold_them() -> None:
    rung = [(1.0, 9.0), (2.0, 8.0), (9.0, 9.0), (0.0, 0.0)]
    assert place(rung).rank == 0
    assert place(rung, [0, 0, 0, 0.1]) == (2, 3, 4)


def test_of_two_that_break_one_the_smaller_violation_is_better() -> None:
    assert place([(0.0, 0.0), (5.0, 5.0)], [0.5, 0.2]).num_better == 0
    assert place([(5.0, 5.0), (0.0, 0.0)], [0.2, 0.5]).num_better == 1


def test_nobody_is_stopped_before_the_rung_can_hold_a_share() -> None:
    rule = halving()
    assert rule.observe("a", None, 3, point(0, 0)) is None
    assert rule.observe("b", None, 3, point(1, 1)) is None
    stop = rule.observe("c", None, 3, point(2, 2))
    assert stop is not None
    assert stop.rung == 3
    assert "2 of 3 trials" in stop.reason


def test_a_trial_is_compared_once_a_rung() -> None:
    rule = halving()
    for name in "abcdef":
        rule.observe(name, None, 3, point(0, 0))
    assert rule.observe("late", None, 2, point(9, 9)) is None, "still in its grace"
    assert rule.observe("a", None, 8, point(9, 9)) is None, "between the rungs"
    assert rule.observe("late", None, 3, point(9, 9)) is not None


def test_a_report_behind_several_rungs_counts_for_the_last_of_them() -> None:
    rule = halving()
    for name in "abc":
        rule.observe(name, None, 9, point(0, 0))
    assert rule.observe("early", None, 3, point(9, 9)) is None, "alone in the first rung"
    stop = rule.observe("late", None, 12, point(9, 9))
    assert stop is not None
    assert stop.rung == 9


def test_strata_do_not_see_each_other() -> None:
    rule = halving()
    for name in "abc":
        rule.observe(name, "none", 3, point(0, 0))
    assert rule.observe("d", "monotonic", 3, point(9, 9)) is None


def test_a_rung_forgets_its_oldest_points() -> None:
    rule = halving(max_rung_size=4)
    for name in "abc":
        rule.observe(name, None, 3, point(0, 0))
    for name in "defg":
        rule.observe(name, None, 3, point(5, 5))
    assert rule.observe("h", None, 3, point(4, 4)) is None


def test_the_violation_is_judged_anew_at_each_decision() -> None:
    limits = {"a": 0.0}
    rule = halving(violation=lambda metrics: metrics["d_eff"] - 5 if limits["a"] else 0.0)  # pyright: ignore[reportArgumentType]
    for name in "abc":
        rule.observe(name, None, 3, RungPoint((0.0, 8.0), {"d_eff": 8.0}))
    assert rule.observe("d", None, 3, RungPoint((1.0, 9.0), {"d_eff": 9.0})) is not None
    limits["a"] = 1.0
    assert rule.observe("e", None, 3, RungPoint((1.0, 4.0), {"d_eff": 4.0})) is None


def test_rungs_are_grace_times_powers_of_the_factor() -> None:
    assert [rung_epochs(4, 3, k) for k in range(4)] == [4, 12, 36, 108]
