from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric
from tracked_sweeps import TEST_METRICS, TRUNCATED, TrackedTrial, make_store, params, track, uri

from dashboards.sweep_results import TrialRun
from dashboards.sweep_store import SweepStore
from dashboards.tracked_results import read_evaluation_table, read_metrics, read_point, read_sweep
from orchestrator.errors import UserError
from trainables.evaluation import Truncation

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two sweeps, one of them twice."""
    folder = tmp_path_factory.mktemp("store")
    track(folder, "twice", [TrackedTrial(params())])
    trials = [
        TrackedTrial(params("mlp"), {5: 0.7, 10: 0.8}, {5: TEST_METRICS, 10: {"knn_accuracy": 0.5}}),
        TrackedTrial(params("none", 43), test={}, status="running"),
        TrackedTrial(params(), truncation=None),
        TrackedTrial(params("mlp", 43), test={}, confirms="trial-0000"),
    ]
    track(folder, "twice", trials, "running")
    track(folder, 'it\'s "odd"', [], tags={"data_order": "original"})
    return folder


@pytest.fixture(scope="module")
def store(folder: Path) -> SweepStore:
    return SweepStore(uri(folder))


def test_the_newest_sweep_of_a_name_is_read(store: SweepStore) -> None:
    sweep = read_sweep(store, "twice")
    assert (sweep.status, sweep.num_of_this_name, len(sweep.trials)) == ("running", 2, 3)


def test_the_order_of_the_data_is_read_where_it_was_recorded(store: SweepStore) -> None:
    assert read_sweep(store, 'it\'s "odd"').data_order == "original"
    assert read_sweep(store, "twice").data_order == ""


def test_trials_are_read_in_the_order_of_proposal(store: SweepStore) -> None:
    found = [
        (t.name, t.head, t.seed, t.status, t.is_evaluated) for t in read_sweep(store, "twice").trials
    ]
    assert found == [
        ("trial-0000", "mlp", "42", "completed", True),
        ("trial-0001", "none", "43", "running", False),
        ("trial-0002", "none", "42", "completed", True),
    ]


def test_trials_that_confirm_others_are_not_of_the_search(store: SweepStore) -> None:
    assert "trial-0003" not in [trial.name for trial in read_sweep(store, "twice").trials]


def test_metrics_are_read_by_epoch(store: SweepStore) -> None:
    read = read_metrics(store, read_sweep(store, "twice").trials[0], ["d_eff"])
    assert read.validation["knn_accuracy"].to_dict() == {5: 0.7, 10: 0.8}
    assert read.test["knn_accuracy"].to_dict() == {5: 0.775, 10: 0.5}
    assert read.test["d_eff"].dropna().to_dict() == {5: 120.0}


def test_a_trial_without_evaluation_has_no_point(store: SweepStore) -> None:
    points = [read_point(store, t, ["d_eff"]) for t in read_sweep(store, "twice").trials]
    assert [point and point.epoch for point in points] == [10, None, 5]


def test_a_table_of_an_evaluation_is_read_where_it_is(store: SweepStore) -> None:
    first, _, last = read_sweep(store, "twice").trials
    read = read_evaluation_table(store, first, 10, "truncation.parquet")
    assert read is not None
    pd.testing.assert_frame_equal(read, TRUNCATED)
    assert list(read.columns) == list(Truncation._fields)
    assert read_evaluation_table(store, first, 10, "other.parquet") is None
    assert read_evaluation_table(store, last, 5, "truncation.parquet") is None


def test_odd_names_are_found(store: SweepStore) -> None:
    assert read_sweep(store, 'it\'s "odd"').trials == ()


def test_an_unknown_sweep_is_answered_with_the_nearest(store: SweepStore) -> None:
    with pytest.raises(UserError, match=r"has no sweep 'twic'; it has twice, it's"):
        read_sweep(store, "twic")


def test_at_most_five_names_are_listed(tmp_path: Path) -> None:
    for number in range(7):
        track(tmp_path, f"sweep-{number}", [])
    with pytest.raises(UserError) as caught:
        read_sweep(SweepStore(uri(tmp_path)), "sweep-9")
    assert str(caught.value).count("sweep-") == 6


def test_a_metric_written_twice_counts_once(tmp_path: Path) -> None:
    track(tmp_path, "again", [TrackedTrial(params())])
    store = SweepStore(uri(tmp_path))
    (only,) = read_sweep(store, "again").trials
    MlflowClient(uri(tmp_path)).log_batch(only.run_id, metrics=[Metric("knn_accuracy", 0.9, 2, 5)])
    assert read_metrics(store, only, []).validation["knn_accuracy"].to_dict() == {5: 0.9}


def test_files_are_logged_to_the_parent_run(store: SweepStore, folder: Path) -> None:
    sweep = read_sweep(store, "twice")
    store.log(sweep.run_id, "tables", {"a.md": b"text", "b.csv": b"1"})
    client = MlflowClient(uri(folder))
    listed = {item.path for item in client.list_artifacts(sweep.run_id, "tables")}
    assert listed == {"tables/a.md", "tables/b.csv"}
    assert Path(client.download_artifacts(sweep.run_id, "tables/a.md")).read_bytes() == b"text"


def test_no_database_is_made_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no experiment with a sweep"):
        SweepStore(uri(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_store_without_sweeps_says_so(tmp_path: Path) -> None:
    make_store(tmp_path)
    with pytest.raises(UserError, match="has no experiment with a sweep"):
        read_sweep(SweepStore(uri(tmp_path)), "any")


def test_a_place_that_is_no_store_is_refused_by_the_options_name() -> None:
    with pytest.raises(UserError, match=r"^--uri: the folder /none/here does not exist"):
        SweepStore("sqlite:////none/here/mlflow.db")


def test_what_mlflow_cannot_do_is_one_line(store: SweepStore) -> None:
    gone = TrialRun("t", "no-such-run", "completed", {}, True)
    with pytest.raises(UserError, match=r"^sqlite:.*no-such-run") as caught:
        read_evaluation_table(store, gone, 5, "truncation.parquet")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_importing_the_pages_loads_no_heavy_library() -> None:
    heavy = ("ray", "torch", "optuna", "mlflow")
    code = f"import sys, dashboards.tables; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert result.stdout.strip() == "[]"
