from __future__ import annotations

import math

import pytest
from hypothesis import given
from sweep_events import (
    EXAMPLES,
    OBJECTIVES,
    REFERENCE,
    TRIALS,
    confirming,
    ended,
    epochs_of_a_sweep,
    imported,
    proposed,
    record_of,
    reported,
    reports,
    retried,
    started,
)

from orchestrator.events import PointEvaluated, SearchEnded, SweepEnded, SweepResumed, SweepStarted
from orchestrator.front import Front
from orchestrator.pareto import hypervolume, nondominated
from orchestrator.record import SweepRecord

Epochs = list[tuple[str, float, float]]


@EXAMPLES
@given(epochs_of_a_sweep)
def test_the_front_equals_the_front_of_all_points_at_once(epochs: Epochs) -> None:
    record = record_of(*reports(epochs))
    kept = nondominated([(-accuracy, d_eff) for _, accuracy, d_eff in epochs])
    expected = [index for index, keep in enumerate(kept, start=1) if keep]
    assert sorted(point.epoch for point in record.front) == expected


@EXAMPLES
@given(epochs_of_a_sweep)
def test_each_trial_has_the_front_of_its_own_points(epochs: Epochs) -> None:
    record = record_of(*reports(epochs))
    for name, trial in record.trials.items():
        own = [
            (epoch, -a, d) for epoch, (trial_name, a, d) in enumerate(epochs, 1) if trial_name == name
        ]
        kept = nondominated([values for _, *values in own])
        assert [p.epoch for p in trial.points] == [epoch for epoch, *_ in own]
        assert [p.epoch for p in trial.front] == [
            o[0] for o, keep in zip(own, kept, strict=True) if keep
        ]


@EXAMPLES
@given(epochs_of_a_sweep)
def test_hypervolume_never_falls(epochs: Epochs) -> None:
    record = record_of()
    volumes = [record.front.hypervolume()]
    for report in reports(epochs):
        record.apply(report)
        volumes.append(record.front.hypervolume())
    assert volumes == sorted(volumes)
    every = [(-accuracy, d_eff) for _, accuracy, d_eff in epochs]
    assert volumes[-1] == pytest.approx(hypervolume(every, (0.0, 128.0)))


@EXAMPLES
@given(epochs_of_a_sweep)
def test_the_representative_has_the_largest_box_by_itself(epochs: Epochs) -> None:
    record = record_of(*reports(epochs))
    for trial in record.trials.values():
        chosen = record.front.representative(trial)
        assert (chosen is None) == (not trial.points)
        if chosen is not None:
            boxes = [-accuracy * (128 - d_eff) for accuracy, d_eff in (p.values for p in trial.points)]
            assert -chosen.values[0] * (128 - chosen.values[1]) == pytest.approx(max(boxes))


def test_a_good_point_among_neighbours_represents_its_trial() -> None:
    # By contribution to the trial's own front, the lonely (0.50, 2) would: 0.50 against 0.46 and 0.37.
    epochs = [(0.50, 2.0), (0.96, 3.0), (0.963, 4.0)]
    record = record_of(*(reported(TRIALS[0], i, a, d) for i, (a, d) in enumerate(epochs, start=1)))
    chosen = record.front.representative(record.trials[TRIALS[0]])
    assert chosen is not None
    assert chosen.epoch == 2


def test_hypervolume_of_one_point_is_its_box() -> None:
    record = record_of(reported(TRIALS[0], 1, accuracy=0.5, d_eff=28.0))
    assert record.front.hypervolume() == pytest.approx(0.5 * 100)
    assert record_of().front.hypervolume() == 0


def test_points_that_are_not_finite_are_left_out() -> None:
    record = record_of(
        reported(TRIALS[0], 1, accuracy=math.nan, d_eff=5.0),
        reported(TRIALS[0], 2, accuracy=0.9, d_eff=math.inf),
        reported(TRIALS[0], 3, accuracy=0.5, d_eff=9.0),
    )
    assert [point.epoch for point in record.front] == [3]
    assert [point.epoch for point in record.trials[TRIALS[0]].points] == [3]


def test_a_trial_without_finite_report_has_no_representative() -> None:
    record = record_of(reported(TRIALS[0], 1, accuracy=math.nan, d_eff=5.0))
    assert record.front.representative(record.trials[TRIALS[0]]) is None


def test_a_front_point_keeps_its_metrics_in_their_own_direction() -> None:
    record = record_of(reported(TRIALS[1], 4, accuracy=0.75, d_eff=6.0))
    (point,) = record.front
    assert (point.trial, point.epoch, point.values) == (TRIALS[1], 4, (-0.75, 6.0))
    assert point.metrics["knn_accuracy"] == 0.75


def test_of_equal_points_the_earlier_stays() -> None:
    record = record_of(reported(TRIALS[0], 1, 0.5, 5.0), reported(TRIALS[1], 1, 0.5, 5.0))
    assert [point.trial for point in record.front] == [TRIALS[0]]


def test_the_sorted_front_has_the_best_of_the_first_objective_first() -> None:
    epochs = [(0.5, 2.0), (0.9, 9.0), (0.7, 5.0)]
    record = record_of(*(reported(TRIALS[0], i, *values) for i, values in enumerate(epochs, 1)))
    assert [point.metrics["knn_accuracy"] for point in record.front.sorted()] == [0.9, 0.7, 0.5]


def test_a_trial_goes_from_pending_over_running_to_its_end() -> None:
    record = record_of()
    trial = record.trials[TRIALS[0]]
    story = [trial.status]
    for event in (started(TRIALS[0], time=4.0), ended(TRIALS[0], "failed", "out of memory")):
        record.apply(event)
        story.append(trial.status)
    assert story == ["pending", "running", "failed"]
    assert (trial.started, trial.ended, trial.reason) == (4.0, 10.0, "out of memory")
    assert trial.is_ended


def test_a_trial_that_is_tried_again_waits_and_keeps_its_points() -> None:
    name = TRIALS[0]
    record = record_of(started(name, time=1.0), reported(name, 1, 0.5, 9.0), retried(name))
    trial = record.trials[name]
    assert (trial.status, trial.num_retries, trial.last_epoch) == ("pending", 1, 1)
    for event in (started(name, time=5.0), retried(name, is_counted=False), started(name, time=7.0)):
        record.apply(event)
    assert (trial.status, trial.num_retries, trial.started) == ("running", 1, 1.0)
    assert len(record.front) == 1 and record.count("running") == 1


def test_count_counts_trials_in_any_of_the_states() -> None:
    record = record_of(started(TRIALS[0]), started(TRIALS[1]), ended(TRIALS[1], "stopped"))
    assert record.count("running") == record.count("stopped") == record.count("pending") == 1
    assert record.count("running", "pending") == 2
    assert record.count("completed", "failed") == 0


def test_training_time_adds_epochs_and_validations() -> None:
    record = record_of(reported(TRIALS[0], 1, 0.5, 5.0), reported(TRIALS[0], 2, math.nan, 5.0))
    assert record.trials[TRIALS[0]].training_time_s == pytest.approx(2 * (2.0 + 0.5))


def test_the_sweep_has_a_start_and_an_end() -> None:
    record = SweepRecord(Front(OBJECTIVES, REFERENCE))
    record.apply(SweepStarted("s", {}, {}, time=1.0))
    assert (record.status, record.started, record.ended) == ("running", 1.0, None)
    record.apply(SweepEnded("interrupted", "interrupted by SIGINT", time=9.0))
    assert (record.status, record.reason, record.ended) == ("interrupted", "interrupted by SIGINT", 9.0)


def test_a_proposal_keeps_parameters_and_configuration() -> None:
    record = SweepRecord(Front(OBJECTIVES, REFERENCE))
    event = proposed("trial-0007", 7, **{"head.kind": "mlp"})
    record.apply(event)
    trial = record.trials["trial-0007"]
    assert (trial.number, trial.parameters, trial.config) == (7, {"head.kind": "mlp"}, event.config)


def test_evaluations_are_kept_and_failures_counted() -> None:
    record = record_of(
        reported(TRIALS[0], 1, 0.9, 5.0),
        reported(TRIALS[1], 2, 0.8, 3.0),
        PointEvaluated(TRIALS[0], 1, {"test_d_eff": 3.0}, time=0.0),
        PointEvaluated(TRIALS[1], 2, {}, time=0.0, reason="no space left"),
    )
    assert record.evaluations == {(TRIALS[0], 1): {"test_d_eff": 3.0}, (TRIALS[1], 2): {}}
    assert record.num_failed_evaluations == 1
    record.apply(reported(TRIALS[2], 1, 0.95, 3.0))  # dominates it, so that it wants no evaluation
    assert record.num_failed_evaluations == 0


@EXAMPLES
@given(epochs_of_a_sweep, epochs_of_a_sweep)
def test_the_front_is_that_of_imported_and_own_points_together(earlier: Epochs, own: Epochs) -> None:
    record = record_of(imported("import-0000", *((a, d) for _, a, d in earlier)), *reports(own))
    every = [(-accuracy, d_eff) for _, accuracy, d_eff in [*earlier, *own]]
    kept = [point for point, keep in zip(every, nondominated(every), strict=True) if keep]
    assert sorted(point.values for point in record.front) == sorted(kept)
    assert record.front.hypervolume() == pytest.approx(hypervolume(every, (0.0, 128.0)))
    assert record.own_front() == [p for p in record.front if p.trial in TRIALS]


def test_an_imported_trial_is_none_of_the_sweeps_own() -> None:
    event = imported("import-0000", (0.5, 9.0), (0.75, 6.0), (math.nan, 5.0), temperature=0.1)
    record = record_of(event, ended(TRIALS[0], "failed"))
    assert list(record.trials) == list(TRIALS)
    assert (record.num_ended, record.num_epochs) == (1, 0)
    trial = record.trial("import-0000")
    assert (trial.source, trial.status, trial.is_unfinished) == (event.source, "imported", False)
    assert trial.parameters == {"temperature": 0.1}
    assert [point.epoch for point in trial.points] == [1, 2]
    assert [point.epoch for point in trial.front] == [2]
    assert record.hypervolumes == [record.front.hypervolume()]
    assert [t.name for t in record.counted_trials] == ["import-0000", *TRIALS]


def test_a_trial_that_confirms_is_no_trial_of_the_search() -> None:
    searched = [started(TRIALS[0]), reported(TRIALS[0], 5, 0.5, 9.0), ended(TRIALS[0])]
    name = f"{TRIALS[0]}-seed-43"
    story = [started(name, time=4.0), reported(name, 5, 0.9, 3.0), ended(name, "failed", "diverged")]
    record, alone = record_of(*searched, confirming(TRIALS[0], 43), *story), record_of(*searched)
    assert list(record.trials) == list(TRIALS)
    assert record.front.points == alone.front.points
    assert record.hypervolumes == alone.hypervolumes
    assert record.num_epochs == alone.num_epochs == 5
    for status in ("pending", "running", "completed", "failed"):
        assert record.count(status) == alone.count(status)


def test_a_trial_that_confirms_has_a_story_of_its_own() -> None:
    name = f"{TRIALS[0]}-seed-43"
    events = [confirming(TRIALS[0], 43), started(name, time=4.0), reported(name, 5, 0.9, 3.0)]
    record = record_of(*events, ended(name, "interrupted"))
    trial = record.trial(name)
    assert (trial.confirms, trial.config["seed"], trial.status) == (TRIALS[0], 43, "interrupted")
    assert [point.values for point in trial.points] == [(-0.9, 3.0)]
    assert record.own_trials == [*record.trials.values(), trial]
    record.apply(SweepResumed({}, {}, 20.0))
    assert (trial.status, trial.last_epoch) == ("pending", 5)


def test_the_search_lasts_as_long_as_drivers_search() -> None:
    record = SweepRecord(Front(OBJECTIVES, REFERENCE))
    seen = []
    for event in (
        SweepStarted("s", {}, {}, time=100.0),
        SearchEnded("enough", time=110.0),
        SweepEnded("completed", "enough", time=150.0),
        SweepResumed({}, {}, time=1000.0),
        proposed(TRIALS[0]),
        started(TRIALS[0], time=1003.0),
        SearchEnded("enough", time=1004.0),
        SweepEnded("completed", "enough", time=1020.0),
    ):
        record.apply(event)
        seen.append((record.searched_s, record.search_ended))
    assert [s for s, _ in seen[:4]] == [0.0, 10.0, 10.0, 10.0]
    assert [s for s, _ in seen[5:]] == [13.0, 14.0, 14.0]
    assert [ended for _, ended in seen] == [None, 110.0, 110.0, None, None, None, 1004.0, 1004.0]
    assert record.active_s == 70.0


def test_a_copy_stays_as_it_is() -> None:
    record = record_of(started(TRIALS[0]), reported(TRIALS[0], 1, 0.5, 5.0))
    copied = record.copy()
    for event in (reported(TRIALS[0], 2, 0.6, 4.0), reported(TRIALS[1], 1, 0.7, 6.0), ended(TRIALS[0])):
        record.apply(event)
    record.apply(proposed("trial-0003", 3))
    assert [(point.trial, point.epoch) for point in copied.front] == [(TRIALS[0], 1)]
    assert list(copied.trials) == list(TRIALS)
    assert [len(copied.trials[trial].points) for trial in TRIALS] == [1, 0, 0]
    assert copied.trials[TRIALS[0]].status == "running"


def with_baseline() -> SweepRecord:
    """The first trial has no head; its second epoch is its best."""
    record = SweepRecord(Front(OBJECTIVES, REFERENCE))
    record.apply(proposed("trial-0000", 0, **{"head.kind": "none"}))
    for epoch, accuracy in enumerate((0.5, 0.75, 0.625), 1):
        record.apply(reported("trial-0000", epoch, accuracy, 9.0))
    return record


def test_the_baseline_is_known_though_nothing_names_it() -> None:
    record = with_baseline()
    assert record.baseline is None
    record.apply(ended("trial-0000"))
    assert record.baseline is not None and record.baseline.epoch == 2
    assert record.front.baseline is None


def test_another_pick_may_name_the_baseline_or_no_longer() -> None:
    record = with_baseline()
    record.apply(ended("trial-0000"))
    record.set_pick("best d_eff subject to knn_accuracy >= 0.7 * baseline")
    assert record.front.picked is not None and record.front.baseline is record.baseline
    record.set_pick("knee")
    assert record.front.picked is not None and record.front.baseline is None
    record.set_pick(None)
    assert (record.front.picked, record.front.pick) == (None, "")
