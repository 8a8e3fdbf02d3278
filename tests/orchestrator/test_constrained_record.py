"""Records of sweeps with constraints, a pick or a reference that name the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sweep_events import (
    EXAMPLES,
    OBJECTIVES,
    REFERENCE,
    TRIALS,
    ended,
    proposed,
    reported,
)

from orchestrator.constraints import Constraints, Expression, parse_bound
from orchestrator.events import Event, TrialReported, TrialStatus
from orchestrator.front import Front
from orchestrator.front_table import front_table
from orchestrator.pareto import hypervolume, nondominated, ranks
from orchestrator.record import SweepRecord
from orchestrator.retention import OwnFront, RetentionRule, wanted_snapshots
from trainables.reports import EpochReport

RELATIVE = "recall_at_1 >= 0.5 * baseline"
ABSOLUTE = "recall_at_1 >= 0.5"

Epochs = list[tuple[str, float, float, float]]
epochs_of_a_sweep = st.lists(
    st.tuples(
        st.sampled_from(TRIALS),
        st.integers(0, 4).map(lambda hits: hits / 4),
        st.integers(1, 4).map(float),
        st.integers(0, 4).map(lambda hits: hits / 4),
    ),
    max_size=25,
)
"""(trial, accuracy, d_eff, recall) of reports in order, on a coarse grid."""


def constrained(
    *events: Event,
    constraints: Sequence[str] = (),
    reference: Mapping[str, float | Expression] = REFERENCE,
    pick: str | None = None,
) -> SweepRecord:
    """A record of TRIALS, the first of which is the baseline."""
    record = SweepRecord(Front(OBJECTIVES, reference, Constraints.of(constraints), pick))
    for number, trial in enumerate(TRIALS):
        record.apply(proposed(trial, number, **{"head.kind": "none" if number == 0 else "monotonic"}))
    for event in events:
        record.apply(event)
    return record


def reports(epochs: Epochs) -> list[TrialReported]:
    return [
        reported(trial, epoch, accuracy, d_eff, recall_at_1=recall)
        for epoch, (trial, accuracy, d_eff, recall) in enumerate(epochs, start=1)
    ]


def expected_front(epochs: Epochs, bound: float) -> list[int]:
    """By ranking all points at once."""
    points = [(-accuracy, d_eff) for _, accuracy, d_eff, _ in epochs]
    violations = np.maximum([(bound - recall) / (bound or 1) for *_, recall in epochs], 0)
    rank = ranks(points, violations)
    best = [index for index in range(len(epochs)) if rank[index] == 0]
    if best and violations[best[0]] > 0:
        return [best[0] + 1]
    kept = nondominated([points[index] for index in best])
    return [index + 1 for index, keep in zip(best, kept, strict=True) if keep]


@EXAMPLES
@given(epochs_of_a_sweep)
def test_constraints_come_before_dominance(epochs: Epochs) -> None:
    record = constrained(*reports(epochs), constraints=[ABSOLUTE])
    assert sorted(point.epoch for point in record.front) == expected_front(epochs, 0.5)
    unconstrained = nondominated([(-a, d) for _, a, d, _ in epochs])
    assert sorted(point.epoch for point in record.front.unconstrained) == [
        epoch for epoch, keep in enumerate(unconstrained, start=1) if keep
    ]


@EXAMPLES
@given(epochs_of_a_sweep, st.integers(0, 25))
def test_once_the_baseline_is_known_all_points_are_judged_by_it(epochs: Epochs, known_at: int) -> None:
    known_at = min(known_at, len(epochs))
    first = [epoch for epoch in epochs[:known_at] if epoch[0] == TRIALS[0]]
    rest = [e for e in epochs[known_at:] if e[0] != TRIALS[0]]
    told = reports(epochs[:known_at] + rest)
    events = [*told[:known_at], ended(TRIALS[0]), *told[known_at:]]
    record = constrained(*events, constraints=[RELATIVE])
    points = epochs[:known_at] + rest
    front = sorted(point.epoch for point in record.front)
    if not first:
        assert record.front.baseline is None
        assert front == [i + 1 for i in np.flatnonzero(nondominated([(-a, d) for _, a, d, _ in points]))]
        return
    baseline = max(first, key=lambda epoch: epoch[1])
    bound = 0.5 * baseline[3]
    got = {(p.values, p.metrics["recall_at_1"] >= bound) for p in record.front}
    wanted = [points[epoch - 1] for epoch in expected_front(points, bound)]
    assert got == {((-a, d), recall >= bound) for _, a, d, recall in wanted}


@EXAMPLES
@given(epochs_of_a_sweep, st.integers(0, 25))
def test_a_point_on_the_front_always_has_its_snapshot(epochs: Epochs, known_at: int) -> None:
    """What its worker wrote and the driver never removed, whenever the baseline comes to be known."""
    constraints = [RELATIVE, "d_eff <= 2 * baseline"]
    record = constrained(constraints=constraints)
    make_rule = OwnFront(OBJECTIVES, record.front.constraints)
    workers = {trial: make_rule() for trial in TRIALS}
    stored: set[tuple[str, int]] = set()
    for number, event in enumerate(reports(epochs)):
        if number == known_at:
            record.apply(ended(TRIALS[0]))
        if workers[event.trial](EpochReport.from_dict(event.report)):
            stored.add((event.trial, event.report["epoch"]))
        record.apply(event)
        stored &= wanted_snapshots(record, RetentionRule())
        assert {(point.trial, point.epoch) for point in record.front} <= stored


def test_the_baseline_is_the_first_trial_without_a_head_that_did_not_fail() -> None:
    record = constrained(reported(TRIALS[0], 1, 0.9, 9.0, recall_at_1=0.5), constraints=[RELATIVE])
    assert record.is_baseline(TRIALS[0])
    record.apply(ended(TRIALS[0], "failed"))
    assert not any(map(record.is_baseline, TRIALS))
    record.apply(proposed("trial-0003", 3, **{"head.kind": "none"}))
    for epoch, accuracy in enumerate((0.6, 0.8, 0.7), start=1):
        record.apply(reported("trial-0003", epoch, accuracy, 9.0, recall_at_1=accuracy))
    assert record.front.baseline is None
    record.apply(ended("trial-0003"))
    assert record.front.baseline
    assert (record.front.baseline.trial, record.front.baseline.epoch) == ("trial-0003", 2)
    record.apply(proposed("trial-0004", 4, **{"head.kind": "none"}))
    assert record.is_baseline("trial-0003")
    assert not record.is_baseline("trial-0004")


@pytest.mark.parametrize("status", ["interrupted", "stopped"])
def test_a_baseline_that_was_cut_short_is_none(status: TrialStatus) -> None:
    events = [reported(TRIALS[0], 1, 0.9, 9.0, recall_at_1=0.5), ended(TRIALS[0], status)]
    assert constrained(*events, constraints=[RELATIVE]).front.baseline is None


def test_a_sweep_that_names_no_baseline_has_none() -> None:
    record = constrained(reported(TRIALS[0], 1, 0.9, 9.0), ended(TRIALS[0]), constraints=["d_eff <= 3"])
    assert record.front.baseline is None
    assert not record.is_baseline(TRIALS[0])


def test_without_a_feasible_point_there_is_no_volume_and_no_pick() -> None:
    record = constrained(reported(TRIALS[1], 1, 0.9, 9.0), constraints=["d_eff <= 3"], pick="knee")
    assert (len(record.front), record.front.is_feasible, record.front.hypervolume()) == (1, False, 0.0)
    assert record.front.picked is None
    record.apply(reported(TRIALS[1], 2, 0.2, 3.0))
    assert record.front.is_feasible
    assert record.front.hypervolume() == pytest.approx(hypervolume([(-0.2, 3.0)], (0.0, 128.0)))
    assert record.front.picked
    assert record.front.picked.epoch == 2


def test_a_feasible_point_stands_for_its_trial_before_a_better_one() -> None:
    events = [reported(TRIALS[1], 1, 0.9, 9.0), reported(TRIALS[1], 2, 0.2, 3.0)]
    record = constrained(*events, constraints=["d_eff <= 3"])
    chosen = record.front.representative(record.trials[TRIALS[1]])
    assert chosen
    assert chosen.epoch == 2
    record = constrained(*events, constraints=["d_eff <= 2"])
    chosen = record.front.representative(record.trials[TRIALS[1]])
    assert chosen
    assert chosen.epoch == 2, "the one that is nearest to it"


def test_a_reference_from_the_baseline_is_worked_out_once_it_completed() -> None:
    reference = {"knn_accuracy": parse_bound("0.5 * baseline", "knn_accuracy"), "d_eff": 20.0}
    record = constrained(reported(TRIALS[0], 1, 0.8, 10.0), reference=reference)
    record.apply(reported(TRIALS[1], 2, 0.6, 8.0))
    record.apply(ended(TRIALS[1]))
    assert (record.front.reference, record.front.hypervolume(), record.hypervolumes) == (None, 0.0, [])
    record.apply(ended(TRIALS[0]))
    assert record.front.reference == {"knn_accuracy": pytest.approx(0.4), "d_eff": 20.0}
    volume = hypervolume([(-0.8, 10.0), (-0.6, 8.0)], (-0.4, 20.0))
    assert record.hypervolumes == [pytest.approx(volume)]


def test_without_a_reference_the_best_of_the_first_objective_stands_for_a_trial() -> None:
    reference = {"knn_accuracy": parse_bound("0.5 * baseline", "knn_accuracy"), "d_eff": 20.0}
    record = constrained(reference=reference)
    for epoch, accuracy in enumerate((0.5, 0.7, 0.6), start=1):
        record.apply(reported(TRIALS[0], epoch, accuracy, float(epoch)))
    chosen = record.front.representative(record.trials[TRIALS[0]])
    assert chosen
    assert chosen.epoch == 2


def test_the_hypervolume_begins_once_all_points_can_be_judged() -> None:
    record = constrained(reported(TRIALS[1], 1, 0.9, 9.0, recall_at_1=0.1), constraints=[RELATIVE])
    record.apply(ended(TRIALS[1]))
    assert record.hypervolumes == []
    record.apply(reported(TRIALS[0], 1, 0.5, 9.0, recall_at_1=0.5))
    record.apply(ended(TRIALS[0]))
    assert record.hypervolumes == [pytest.approx(0.5 * 119)]


def test_a_baseline_that_was_stopped_makes_way_for_the_next() -> None:
    record = constrained(ended(TRIALS[0], "stopped"), constraints=[RELATIVE])
    record.apply(proposed("trial-0003", 3, **{"head.kind": "none"}))
    assert record.is_baseline("trial-0003")


def test_what_cannot_be_judged_still_has_a_front() -> None:
    record = constrained(reported(TRIALS[1], 1, 0.9, 9.0), constraints=["train_loss <= 3"])
    assert (len(record.front), record.front.is_feasible) == (1, False)


def test_a_reference_without_a_value_at_the_baseline_stays_unknown() -> None:
    reference = {"knn_accuracy": parse_bound("1 / (baseline - 0.5)", "knn_accuracy"), "d_eff": 20.0}
    record = constrained(reported(TRIALS[0], 1, 0.5, 10.0), ended(TRIALS[0]), reference=reference)
    assert record.front.baseline
    assert (record.front.reference, record.hypervolumes) == (None, [])


def test_the_picked_point_is_marked_also_where_the_baseline_came_later() -> None:
    record = constrained(
        reported(TRIALS[1], 1, 0.9, 9.0, recall_at_1=0.9), constraints=[RELATIVE], pick="knee"
    )
    record.apply(reported(TRIALS[0], 1, 0.5, 9.0, recall_at_1=0.5))
    record.apply(ended(TRIALS[0]))
    points = front_table("s", record).points
    assert list(points.loc[points["is_picked"], "trial"]) == [TRIALS[1]]
