from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from sweep_events import (
    EXAMPLES,
    TRIALS,
    confirming,
    ended,
    epochs_of_a_sweep,
    imported,
    proposed,
    record_of,
    reported,
    reports,
)

from orchestrator.events import PointEvaluated, TrialProposed
from orchestrator.front_table import front_table
from trainables.config import TrialConfig
from trainables.sentence_sources import STSB

Epochs = list[tuple[str, float, float]]


@EXAMPLES
@given(epochs_of_a_sweep)
def test_the_table_has_every_point_and_marks_the_front(epochs: Epochs) -> None:
    record = record_of(*reports(epochs))
    table = front_table("s", record)
    assert len(table.points) == len(epochs)
    marked = set(zip(table.front["trial"], table.front["epoch"], strict=True))
    assert marked == {(point.trial, point.epoch) for point in record.front}


@EXAMPLES
@given(epochs_of_a_sweep)
def test_the_front_comes_first_and_the_best_of_it_before(epochs: Epochs) -> None:
    points = front_table("s", record_of(*reports(epochs))).points
    keys = [
        (not row["on_front"], -row["knn_accuracy"], row["trial"], row["epoch"])
        for row in points.to_dict("records")
    ]
    assert keys == sorted(keys)


def test_a_row_tells_metrics_status_and_parameters() -> None:
    record = record_of(
        proposed(TRIALS[0], 0, **{"head.kind": "mlp", "temperature": 0.25}),
        reported(TRIALS[0], 5, accuracy=0.75, d_eff=6.0),
        ended(TRIALS[0]),
    )
    row = front_table("s", record).points.iloc[0]
    assert (row["trial"], row["epoch"], row["status"]) == (TRIALS[0], 5, "completed")
    assert (row["knn_accuracy"], row["d_eff"]) == (0.75, 6.0)
    assert (row["param.head.kind"], row["param.temperature"]) == ("mlp", 0.25)


def test_a_parameter_that_does_not_exist_is_missing() -> None:
    record = record_of(
        proposed(TRIALS[0], 0, **{"head.kind": "none"}),
        proposed(TRIALS[1], 1, **{"head.kind": "mlp", "head.depth": 2}),
        reported(TRIALS[0], 1, 0.9, 9.0),
        reported(TRIALS[1], 1, 0.5, 5.0),
    )
    points = front_table("s", record).points
    assert points["trial"].tolist() == [TRIALS[0], TRIALS[1]]
    assert points["param.head.depth"].isna().tolist() == [True, False]
    assert points["param.head.depth"].tolist()[1] == 2


def test_the_table_of_no_points_has_its_columns() -> None:
    table = front_table("s", record_of())
    assert list(table.points.columns) == [
        "trial",
        "epoch",
        "source",
        "on_front",
        "is_picked",
        "is_feasible",
        "status",
        "knn_accuracy",
        "d_eff",
    ]
    assert len(table.points) == len(table.front) == 0


def test_run_ids_stand_beside_their_trials() -> None:
    record = record_of(reported(TRIALS[0], 1, 0.5, 5.0), reported(TRIALS[1], 1, 0.9, 9.0))
    table = front_table("s", record)
    with_ids = table.with_run_ids({TRIALS[0]: "aaa", TRIALS[1]: "bbb"})
    assert dict(zip(with_ids.points["trial"], with_ids.points["run_id"], strict=True)) == {
        TRIALS[0]: "aaa",
        TRIALS[1]: "bbb",
    }
    assert "run_id" not in table.points


def test_test_metrics_stand_beside_the_points_that_were_evaluated() -> None:
    events = reports([(TRIALS[0], 0.5, 5.0), (TRIALS[1], 0.6, 6.0)])
    evaluated = PointEvaluated(TRIALS[1], 2, {"test_knn_accuracy": 0.25}, time=0.0)
    points = front_table("s", record_of(*events, evaluated)).points
    tested = dict(zip(points["trial"], points["test_knn_accuracy"], strict=True))
    assert tested[TRIALS[1]] == 0.25
    assert math.isnan(tested[TRIALS[0]])


def of_pairs(trial: str, scored_pairs: str | None = None) -> TrialProposed:
    data = {"scored_pairs": scored_pairs}
    config = TrialConfig.model_validate({"preset": "paper_snli", "data": data}).model_dump()
    return TrialProposed(trial, 0, {}, config, time=0.0)


@pytest.mark.parametrize(
    ("trials", "name"),
    [
        ([of_pairs(trial) for trial in TRIALS], "STSb"),
        ([of_pairs(trial, STSB) for trial in TRIALS], "STSb"),
        ([of_pairs(trial, "/data/stsb") for trial in TRIALS], ""),
        ([of_pairs(TRIALS[0]), *(of_pairs(trial, "/data/mine.csv") for trial in TRIALS[1:])], ""),
        ([], ""),
    ],
)
def test_the_scored_pairs_are_named_where_they_are_known(trials: list[TrialProposed], name: str) -> None:
    assert front_table("s", record_of(*trials)).scored_on == name


def test_a_dataset_that_is_not_known_here_has_its_points() -> None:
    known = of_pairs(TRIALS[0])
    unknown = replace(known, config={**known.config, "dataset": "of_2030"})
    table = front_table("s", record_of(unknown, reported(TRIALS[0], 5, accuracy=0.75, d_eff=6.0)))
    assert (table.scored_on, len(table.points)) == ("", 1)


def test_imported_points_say_where_they_are_from() -> None:
    record = record_of(imported("import-0000", (0.9, 3.0)), reported(TRIALS[0], 1, 0.95, 9.0))
    points = front_table("s", record).points
    told = points[["trial", "source", "on_front", "status"]].to_numpy().tolist()
    assert told == [
        [TRIALS[0], "", True, "pending"],
        ["import-0000", "earlier/import-0000", True, "imported"],
    ]


def test_confirmations_stand_beside_the_points_that_are_confirmed() -> None:
    events = reports([(TRIALS[0], 0.5, 5.0), (TRIALS[1], 0.6, 6.0)])
    for seed, accuracy in ((43, 0.25), (44, 0.75)):
        name = f"{TRIALS[1]}-seed-{seed}"
        events += [confirming(TRIALS[1], seed), reported(name, 2, accuracy, 6.0), ended(name)]
    points = front_table("s", record_of(*events)).points.set_index("trial")
    assert sorted(points.index) == [TRIALS[0], TRIALS[1]]
    row = points.loc[TRIALS[1]]
    assert (row["knn_accuracy"], row["knn_accuracy_mean"], row["d_eff_std"]) == (0.6, 0.5, 0.0)
    assert row["knn_accuracy_std"] == math.sqrt(0.125)
    assert row["num_seeds"] == 2
    columns = ["knn_accuracy_mean", "d_eff_std", "num_seeds", "front_probability"]
    assert points.loc[TRIALS[0], columns].isna().all()
    assert str(points["num_seeds"].dtype) == "Int64"


def test_probabilities_wait_until_the_front_is_confirmed_evenly() -> None:
    events = reports([(TRIALS[0], 0.5, 5.0), (TRIALS[1], 0.6, 6.0)])
    probabilities = []
    for trial, epoch, d_eff, values in (
        (TRIALS[1], 2, 6.0, (0.25, 0.75)),
        (TRIALS[0], 1, 5.0, (0.5, 0.5)),
    ):
        for seed, accuracy in zip((43, 44), values, strict=True):
            name = f"{trial}-seed-{seed}"
            report = reported(name, epoch, accuracy, d_eff)
            events += [confirming(trial, seed), report, ended(name)]
        points = front_table("s", record_of(*events)).points.set_index("trial")
        probabilities.append(points["front_probability"].to_dict()[TRIALS[1]])
    assert probabilities == pytest.approx([math.nan, 0.5], nan_ok=True)
    points = front_table("s", record_of(*events, confirming(TRIALS[0], 45))).points
    assert all(points["front_probability"].isna().tolist())


def test_without_confirmations_there_are_no_such_columns() -> None:
    points = front_table("s", record_of(*reports([(TRIALS[0], 0.5, 5.0)]))).points
    assert not [name for name in points.columns if str(name).endswith(("_mean", "_std"))]
    assert "num_seeds" not in points
