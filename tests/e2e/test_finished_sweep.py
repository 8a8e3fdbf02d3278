"""What a finished sweep leaves on the terminal, on disk and in MLflow."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import pandas as pd
import pytest
import torch
from stories import state_of
from sweep_runs import EVALUATED, TINY, SweepRun
from tracked_story import assert_mlflow_tells_the_story

from orchestrator.events import TrialEnded, TrialProposed
from orchestrator.retention import RetentionRule, wanted_snapshots
from orchestrator.settings import load_settings
from trainables.config import TrialConfig
from trainables.images import load_images
from trainables.reports import TRAINING_METRICS, metrics_of
from trainables.snapshots import EMBEDDINGS, read_snapshot, restore_embeddings
from trainables.validation import embed, validate

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")


def test_succeeds_and_says_how_to_look_at_it(tiny_sweep: SweepRun) -> None:
    assert tiny_sweep.returncode == 0
    assert "-m mlflow ui --backend-store-uri sqlite:///" in tiny_sweep.stdout
    assert tiny_sweep.parent.info.run_id in tiny_sweep.stdout
    assert "all 4 trials ended" in " ".join(tiny_sweep.stdout.split())


def test_prints_nothing_of_its_libraries(tiny_sweep: SweepRun) -> None:
    assert tiny_sweep.stderr == ""
    assert not any(word in tiny_sweep.stdout for word in ("ray.init", "Warning", "INFO", "Tune"))


def test_ledger_opens_and_ends_every_trial_once(tiny_sweep: SweepRun) -> None:
    events = tiny_sweep.events
    proposed = [e.trial for e in events if isinstance(e, TrialProposed)]
    ended = [e.trial for e in events if isinstance(e, TrialEnded)]
    assert sorted(proposed) == sorted(ended) == [f"trial-{i:04d}" for i in range(4)]
    assert tiny_sweep.end.status == "completed"


def test_diverged_trial_is_recorded_with_its_reason(tiny_sweep: SweepRun) -> None:
    child = tiny_sweep.children["trial-0003"]
    assert child.info.status == "FAILED"
    assert "diverged" in child.data.tags["reason"]
    assert "DivergedError" in _text(tiny_sweep, child.info.run_id, "failure.txt")


def _text(sweep: SweepRun, run_id: str, artifact: str) -> str:
    return Path(sweep.client.download_artifacts(run_id, artifact)).read_text()


def test_children_are_nested_under_the_parent(tiny_sweep: SweepRun) -> None:
    parent = tiny_sweep.parent
    assert parent.info.status == "FINISHED"
    assert len(tiny_sweep.children) == 4
    for child in tiny_sweep.children.values():
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id


def test_children_hold_the_whole_configuration(tiny_sweep: SweepRun) -> None:
    for name, trial in tiny_sweep.record.trials.items():
        params = tiny_sweep.children[name].data.params
        config = TrialConfig.model_validate(trial.config)
        assert params["optimizer.head_lr"] == str(config.optimizer.head_lr)
        assert params["temperature"] == str(config.temperature)
        assert ("head.depth" in params) == (config.head.kind != "none")


def test_every_epoch_has_its_training_metrics(tiny_sweep: SweepRun) -> None:
    run_id = tiny_sweep.children["trial-0000"].info.run_id
    for name in TRAINING_METRICS:
        history = tiny_sweep.client.get_metric_history(run_id, name)
        assert [metric.step for metric in history] == [1, 2, 3, 4, 5, 6, 7]


def test_every_validation_has_every_metric(tiny_sweep: SweepRun) -> None:
    run_id = tiny_sweep.children["trial-0000"].info.run_id
    points = tiny_sweep.record.trials["trial-0000"].points
    for name in metrics_of("classification").keys() - set(TRAINING_METRICS):
        history = tiny_sweep.client.get_metric_history(run_id, name)
        assert {m.step: m.value for m in history} == {p.epoch: p.metrics[name] for p in points}
    assert [point.epoch for point in points] == [3, 6, 7]


def test_tags_tell_versions_and_the_front(tiny_sweep: SweepRun) -> None:
    front = {point.trial for point in tiny_sweep.record.front}
    for name, child in tiny_sweep.children.items():
        assert child.data.tags["on_front"] == str(name in front).lower()
        assert child.data.tags["version.ray"]
        assert child.data.tags["head.kind"] == tiny_sweep.record.trials[name].config["head"]["kind"]


def test_hypervolume_is_logged_after_each_trial(tiny_sweep: SweepRun) -> None:
    history = tiny_sweep.client.get_metric_history(tiny_sweep.parent.info.run_id, "hypervolume")
    assert [metric.step for metric in history] == [1, 2, 3, 4]
    assert history[-1].value == pytest.approx(tiny_sweep.record.front.hypervolume())
    assert all(a.value <= b.value for a, b in itertools.pairwise(history))


def test_parent_holds_the_front_and_the_settings(tiny_sweep: SweepRun) -> None:
    run_id = tiny_sweep.parent.info.run_id
    table = pd.read_csv(io.StringIO(_text(tiny_sweep, run_id, "pareto_front.csv")))
    front = {(point.trial, point.epoch) for point in tiny_sweep.record.front}
    assert set(zip(table["trial"], table["epoch"], strict=True)) == front
    assert table["run_id"].tolist() == [tiny_sweep.children[t].info.run_id for t in table["trial"]]
    page = state_of(_text(tiny_sweep, run_id, "report.html"))
    assert page["title"] == "tiny" and "4 of 4" in page["summary"]
    assert {"front", "hypervolume", "trajectories"} <= page["figures"].keys()


def test_resolved_settings_run_the_same_sweep_again(tiny_sweep: SweepRun) -> None:
    places = [
        f"storage={tiny_sweep.folder}/runs",
        f"tracking.uri=sqlite:///{tiny_sweep.folder}/mlflow.db",
        EVALUATED[1],
    ]
    assert load_settings(tiny_sweep.paths.settings) == load_settings(TINY, places)


def test_disk_holds_exactly_the_snapshots_of_the_front(tiny_sweep: SweepRun) -> None:
    folders = (tiny_sweep.paths.root / "snapshots").glob("*/*")
    stored = {(folder.parent.name, int(folder.name.removeprefix("epoch-"))) for folder in folders}
    assert stored == wanted_snapshots(tiny_sweep.record, RetentionRule())


def test_mlflow_holds_exactly_the_snapshots_of_the_front(tiny_sweep: SweepRun) -> None:
    stored = {
        (name, int(artifact.path.removeprefix("snapshots/epoch-")))
        for name, child in tiny_sweep.children.items()
        for artifact in tiny_sweep.client.list_artifacts(child.info.run_id, "snapshots")
    }
    assert stored == wanted_snapshots(tiny_sweep.record, RetentionRule())


def test_weights_from_mlflow_give_the_reported_numbers(tiny_sweep: SweepRun) -> None:
    point = tiny_sweep.record.front.sorted()[0]
    run_id = tiny_sweep.children[point.trial].info.run_id
    folder = tiny_sweep.client.download_artifacts(run_id, f"snapshots/epoch-{point.epoch:04d}")
    snapshot = read_snapshot(folder)
    metrics = validate(snapshot.model, load_images("digits", snapshot.config.data, CPU)).metrics
    assert metrics["knn_accuracy"] == point.metrics["knn_accuracy"]
    assert metrics["d_eff"] == point.metrics["d_eff"]


def test_stored_embeddings_are_those_of_the_model(tiny_sweep: SweepRun) -> None:
    point = tiny_sweep.record.front.sorted()[0]
    folder = Path(tiny_sweep.paths.snapshot(point.trial, point.epoch))
    vectors, known = restore_embeddings(folder / EMBEDDINGS, "test")
    snapshot = read_snapshot(folder)
    test = load_images("digits", snapshot.config.data, CPU).test
    exact = embed(snapshot.model, test).embedding
    error = (vectors - exact).square().mean().sqrt()
    assert torch.equal(known["labels"], test.labels)
    assert error < 0.05 * exact.square().mean().sqrt()


def test_experiment_is_marked_as_model_training(tiny_sweep: SweepRun) -> None:
    experiment = tiny_sweep.client.get_experiment(tiny_sweep.parent.info.experiment_id)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert experiment.artifact_location == f"file://{tiny_sweep.folder}/mlartifacts/tiny"


def test_mlflow_alone_tells_the_story(tiny_sweep: SweepRun) -> None:
    assert_mlflow_tells_the_story(tiny_sweep)
