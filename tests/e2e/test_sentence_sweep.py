"""A sweep over pairs of sentences of one's own, as its user finds it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sweep_runs import SweepRun, run_sweep
from tiny_sentences import WIDTH, write_csv, write_pairs, write_scored_pairs, write_transformer

from orchestrator.environment import DATA_DIGEST
from orchestrator.events import PointEvaluated, SweepStarted
from orchestrator.mlflow_values import read_environment
from orchestrator.pages import SWEEP_PAGE
from orchestrator.settings import load_settings
from trainables.reports import (
    CORRELATION,
    SPECTRUM,
    SUMMARY,
    TRUNCATION,
    TRUNCATION_CURVE,
    UNTOUCHED,
    metrics_of,
)
from trainables.sentences import load_sentences, pairs_spearman
from trainables.snapshots import EMBEDDINGS, read_snapshot, restore_embeddings
from trainables.validation import embed

pytestmark = pytest.mark.slow

SPACE = """
name: own
trial:
  preset: paper_snli
  dataset: sentence_pairs
  data: {{source: {folder}/pairs.csv, scored_pairs: {folder}/scored.csv}}
  encoder_weights: {folder}/weights
  encoder_dim: {width}
  batch_size: 8
  epochs: 3
  optimizer: {{head_lr: 1.0e-2, encoder_lr_ratio: 0.1}}
search_space:
  head.kind: {{choice: [none, mlp, monotonic]}}
first_trials: [{{head.kind: none}}, {{head.kind: mlp}}, {{head.kind: monotonic}}]
constraints: ["spearman >= 0.1 * baseline"]
search: {{sampler: list, trials: 3}}
resources: {{workers: 0, cpus: 1, max_concurrent: 2}}
evaluation: {{points: front}}
"""


def write_space(folder: Path) -> Path:
    write_pairs(folder / "pairs.csv")
    write_scored_pairs(folder / "scored.csv")
    write_transformer(folder / "weights")
    (folder / "own.yaml").write_text(SPACE.format(folder=folder, width=WIDTH))
    return folder / "own.yaml"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> SweepRun:
    folder = tmp_path_factory.mktemp("own")
    found = run_sweep(folder, "own", file=write_space(folder))
    assert found.returncode == 0, found.stderr
    return found


def test_three_heads_train_and_have_a_front(sweep: SweepRun) -> None:
    assert [trial.status for trial in sweep.record.trials.values()] == ["completed"] * 3
    assert load_settings(sweep.paths.settings).objectives == {"spearman": "max", "d_eff": "min"}
    assert len(sweep.record.front.points) >= 1
    for trial in sweep.record.trials.values():
        assert [point.epoch for point in trial.points] == [1, 2, 3]
        assert set(trial.points[0].metrics) == set(metrics_of("similarity"))


def test_test_metrics_are_those_of_the_snapshot_beside_the_untouched_encoder(sweep: SweepRun) -> None:
    event = next(event for event in sweep.events if isinstance(event, PointEvaluated))
    snapshot = read_snapshot(sweep.paths.snapshot(event.trial, event.epoch))
    dataset = load_sentences(snapshot.config, torch.device("cpu"))
    test = embed(snapshot.model, dataset.test).embedding
    assert event.metrics["test_spearman"] == pytest.approx(pairs_spearman(test, dataset.test), abs=1e-6)
    assert event.metrics["test_d_eff"] == snapshot.report.metrics["d_eff"]
    assert {"test_untouched_spearman", "test_untouched_pca_spearman"} <= event.metrics.keys()


def test_mlflow_holds_the_data_of_the_figures(sweep: SweepRun, tmp_path: Path) -> None:
    event = next(event for event in sweep.events if isinstance(event, PointEvaluated))
    run_id, place = sweep.children[event.trial].info.run_id, f"evaluations/epoch-{event.epoch:04d}"
    files = {Path(file.path).name for file in sweep.client.list_artifacts(run_id, place)}
    tables = {TRUNCATION, TRUNCATION_CURVE, UNTOUCHED, SPECTRUM}
    assert files == {SUMMARY, CORRELATION, SWEEP_PAGE, *tables}
    folder = Path(sweep.client.download_artifacts(run_id, place, str(tmp_path)))
    untouched = pd.read_parquet(folder / UNTOUCHED).set_index("components")
    alike = untouched.loc[int(event.metrics["test_d_eff"])]
    best = max(alike["spearman_cosine"], alike["spearman_euclidean"])
    assert event.metrics["test_untouched_pca_spearman"] == pytest.approx(best)
    whole = untouched.loc[WIDTH, "spearman_euclidean"]
    assert event.metrics["test_untouched_spearman"] == pytest.approx(whole, abs=1e-6)
    with np.load(folder / CORRELATION) as matrices:
        assert set(matrices) == {"encoder", "unnormalized", "embedding", "untouched"}
    assert json.loads((folder / SUMMARY).read_text())["test"] == event.metrics


def test_stored_embeddings_come_with_their_pairs(sweep: SweepRun) -> None:
    point = sweep.record.front.sorted()[0]
    path = Path(sweep.paths.snapshot(point.trial, point.epoch)) / EMBEDDINGS
    vectors, known = restore_embeddings(path, "validation")
    assert set(known) == {"first", "second", "scores"}
    assert len(known["first"]) == len(known["scores"]) == 15 and len(vectors) > max(known["first"])


def test_snapshot_embeds_new_sentences(sweep: SweepRun) -> None:
    point = sweep.record.front.sorted()[0]
    snapshot = read_snapshot(sweep.paths.snapshot(point.trial, point.epoch))
    vectors = snapshot.model(snapshot.sentences(["the dog sleeps", "a cat"]))
    assert vectors.shape == (2, WIDTH)


def test_bad_pairs_are_refused_before_any_trial(tmp_path: Path, no_ray_left: None) -> None:
    space = write_space(tmp_path)
    write_csv(tmp_path / "pairs.csv", ("first", "second"), [("", "a")] * 3)
    sweep = run_sweep(tmp_path, "refused", file=space, has_store=False)
    assert sweep.returncode == 2
    assert "has no column sentence1 and no column sentence2" in sweep.stderr
    assert "Traceback" not in sweep.stderr
    assert not (tmp_path / "runs").exists() and not (tmp_path / "mlflow.db").exists()


def test_changed_pairs_are_not_resumed(tmp_path: Path, no_ray_left: None) -> None:
    space, unevaluated = write_space(tmp_path), ("--set", "evaluation.points=none")
    begun = run_sweep(tmp_path, "changed", "--trials", "1", *unevaluated, file=space)
    assert begun.returncode == 0, begun.stderr
    ledger = begun.paths.ledger.read_bytes()
    more = ("--trials", "2", *unevaluated)
    write_pairs(tmp_path / "pairs.csv", 15)
    refused = run_sweep(tmp_path, "changed", *more, file=space, resumed=True)
    assert refused.returncode == 2
    assert f"data.source {tmp_path}/pairs.csv" in refused.stderr
    assert "put the data back" in refused.stderr and "Traceback" not in refused.stderr
    assert begun.paths.ledger.read_bytes() == ledger
    write_pairs(tmp_path / "pairs.csv")
    resumed = run_sweep(tmp_path, "changed", *more, file=space, resumed=True)
    assert resumed.returncode == 0, resumed.stderr
    assert [trial.status for trial in resumed.record.trials.values()] == ["completed"] * 2
    started = resumed.events[0]
    assert isinstance(started, SweepStarted)
    digests = {name: text for name, text in started.environment.items() if name.startswith(DATA_DIGEST)}
    assert len(digests) == 1 and digests.items() <= read_environment(resumed.parent.data.tags).items()
