import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from short_trials import digits_trial, last_validation, short_trial
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn import functional

from trainables import evaluation
from trainables.config import HeadConfig
from trainables.evaluation import (
    Evaluation,
    Truncation,
    evaluate_features,
    evaluate_snapshot,
    truncations,
    tsne_coordinates,
)
from trainables.images import Dataset, Subset
from trainables.metrics import correlation_matrix, correlation_rms, evaluate, spectrum
from trainables.models import Features
from trainables.reports import (
    CORRELATION,
    METRICS,
    NUM_RECALLS,
    RECALL,
    SPECTRUM,
    SUMMARY,
    TRUNCATION,
    TRUNCATION_CURVE,
    TRUNCATIONS,
    TSNE,
)
from trainables.snapshots import write_snapshot
from trainables.truncation_curves import CurvePoint
from trainables.validation import Validation

DIM = 20
SIZES = {"training": 200, "validation": 60, "test": 60}
FILES = {SUMMARY, TRUNCATION, TRUNCATION_CURVE, RECALL, SPECTRUM, CORRELATION, TSNE}
STAGES = {"encoder": "encoded", "unnormalized": "projected", "embedding": "embedding"}
CONFIG = short_trial(head=HeadConfig(kind="mlp"), epochs=1)


@pytest.fixture(scope="module", autouse=True)
def one_thread_each() -> Iterator[None]:
    """Also in this file's fixtures, and in scikit-learn, whose threads wait for each other busily."""
    with threadpool_limits(1):
        yield


def clustered(labels: Tensor, seed: int, dim: int = DIM) -> Features:
    """Outputs in noisy clusters, with variances that fall from one dimension to the next."""
    centres = torch.randn(8, dim, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(len(labels), dim, generator=torch.Generator().manual_seed(seed))
    scale = 0.85 ** torch.arange(dim)
    encoded = (centres[labels] + 0.9 * noise) * scale + 0.2
    projected = 3 * encoded.roll(1, dims=1) - 0.1
    return Features(encoded, projected, functional.normalize(projected, dim=1))


def without_images(labels: Tensor) -> Subset:
    return Subset(torch.zeros(len(labels), 1, 1, 1), labels)


def parts_of(dim: int = DIM) -> tuple[Dataset, list[Features]]:
    labels = [torch.arange(num) % 5 for num in SIZES.values()]
    features = [clustered(some, seed, dim) for seed, some in enumerate(labels, start=1)]
    return Dataset(*(without_images(some) for some in labels)), features


def evaluated(dim: int = DIM) -> Evaluation:
    dataset, features = parts_of(dim)
    return evaluate_features(digits_trial(), dataset, *features)


@pytest.fixture(scope="module")
def result() -> Evaluation:
    return evaluated()


class Reference:
    """The test set's metrics from the equations, in float64, on coordinates of scikit-learn's PCA."""

    def __init__(self, num_components: int = DIM) -> None:
        dataset, (training, validation, test) = parts_of()
        gallery = torch.cat([training.embedding, validation.embedding]).double().numpy()
        self.labels = torch.cat([dataset.training.labels, dataset.validation.labels]).numpy()
        self.query_labels = dataset.test.labels.numpy()
        queries = test.embedding.double().numpy()
        pca = PCA(num_components, svd_solver="full").fit(gallery)
        self.gallery, self.queries = pca.transform(gallery), pca.transform(queries)
        self.residual = queries - pca.inverse_transform(self.queries)
        self.centred = queries - gallery.mean(axis=0)
        self.shares = pca.explained_variance_ratio_.cumsum()

    def knn_accuracy(self) -> float:
        classifier = KNeighborsClassifier(n_neighbors=5).fit(self.gallery, self.labels)
        return float(np.mean(classifier.predict(self.queries) == self.query_labels))

    def recall(self, scores: np.ndarray, k: int) -> float:
        nearest = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return float(np.mean((self.labels[nearest] == self.query_labels[:, None]).any(axis=1)))

    def by_dot(self) -> np.ndarray:
        return self.queries @ self.gallery.T

    def by_cosine(self) -> np.ndarray:
        lengths = np.linalg.norm(self.queries, axis=1)[:, None] * np.linalg.norm(self.gallery, axis=1)
        return self.by_dot() / lengths

    def by_distance(self) -> np.ndarray:
        return -np.linalg.norm(self.queries[:, None] - self.gallery[None], axis=2)


def test_test_metrics_are_those_of_slow_references(result: Evaluation) -> None:
    reference = Reference()
    assert result.metrics["test_knn_accuracy"] == pytest.approx(reference.knn_accuracy())
    for k in (1, 5, 20):
        expected = reference.recall(reference.by_distance(), k)
        assert result.metrics[f"test_recall_at_{k}"] == pytest.approx(expected)
    for name, share in (("d_eff_90", 0.9), ("d_eff", 0.99), ("d_eff_999", 0.999)):
        assert result.metrics[f"test_{name}"] == 1 + (reference.shares < share).sum()
    assert 0.5 < result.metrics["test_knn_accuracy"] < 1


def test_test_errors_are_those_on_the_first_d_eff_components(result: Evaluation) -> None:
    reference = Reference(int(result.metrics["test_d_eff"]))
    error = np.sqrt(np.mean(reference.residual**2))
    relative = np.sum(reference.residual**2) / np.sum(reference.centred**2)
    assert result.metrics["test_reconstruction_error"] == pytest.approx(error, rel=1e-6)
    assert result.metrics["test_reconstruction_error_relative"] == pytest.approx(relative, rel=1e-6)


def test_correlation_of_the_test_metrics_is_the_test_sets(result: Evaluation) -> None:
    _, (_, _, test) = parts_of()
    assert result.metrics["test_correlation_rms"] == correlation_rms(test.embedding)


def test_every_test_metric_is_named_after_a_metric(result: Evaluation) -> None:
    assert all(name.removeprefix("test_") in METRICS for name in result.metrics)
    assert all(name.startswith("test_") for name in result.metrics)
    assert {f"test_recall_at_{k}" for k in range(1, NUM_RECALLS + 1)} <= result.metrics.keys()
    assert all(type(value) is float and math.isfinite(value) for value in result.metrics.values())


@pytest.mark.parametrize("place", [0, 1])
def test_truncated_metrics_are_those_of_slow_references(result: Evaluation, place: int) -> None:
    found = result.truncations[place]
    reference = Reference(found.components)
    assert found.knn_accuracy == pytest.approx(reference.knn_accuracy())
    for name, scores in (
        ("dot", reference.by_dot()),
        ("cosine", reference.by_cosine()),
        ("euclidean", reference.by_distance()),
    ):
        for k in (1, 5):
            assert getattr(found, f"recall_{name}_at_{k}") == pytest.approx(reference.recall(scores, k))
    error = np.sqrt(np.mean(reference.residual**2))
    relative = np.sum(reference.residual**2) / np.sum(reference.centred**2)
    assert found.reconstruction_error == pytest.approx(error, rel=1e-6)
    assert found.reconstruction_error_relative == pytest.approx(relative, rel=1e-6)


def test_embeddings_are_cut_to_the_papers_sizes_and_to_8() -> None:
    assert TRUNCATIONS == (128, 64, 16, 8)


@pytest.mark.parametrize(("dim", "expected"), [(20, [16, 8]), (16, [8]), (8, []), (65, [64, 16, 8])])
def test_sizes_not_below_the_width_are_left_out(dim: int, expected: list[int]) -> None:
    _, (training, _, test) = parts_of(dim)
    labels = torch.arange(200) % 5
    cut = truncations(
        training.embedding, labels, test.embedding, labels[:60], spectrum(training.embedding)
    )
    assert [truncation.components for truncation in cut] == expected


def test_all_but_one_component_are_almost_the_whole_embedding() -> None:
    dataset, (training, _, test) = parts_of()
    gallery, labels, query_labels = training.embedding, dataset.training.labels, dataset.test.labels
    whole = evaluate(gallery, labels, test.embedding, query_labels)
    (cut,) = truncations(
        gallery, labels, test.embedding, query_labels, spectrum(gallery), sizes=(DIM - 1,)
    )
    assert cut.knn_accuracy == pytest.approx(whole["knn_accuracy"], abs=0.04)
    assert cut.recall_euclidean_at_1 == pytest.approx(whole["recall_at_1"], abs=0.04)
    assert cut.recall_euclidean_at_5 == pytest.approx(whole["recall_at_5"], abs=0.04)
    assert 0 < cut.reconstruction_error_relative < 0.01


def on_an_arc(num: int, seed: int) -> tuple[Tensor, Tensor]:
    """Unit vectors of 10 classes, one behind the other on a quarter of a circle."""
    source = torch.Generator().manual_seed(seed)
    labels = torch.arange(num) % 10
    angles = math.pi / 2 * (labels + 0.2 * torch.rand(num, generator=source)) / 10
    third = 0.01 * torch.randn(num, generator=source)
    return functional.normalize(torch.stack([angles.cos(), angles.sin(), third], dim=1), dim=1), labels


def test_inner_products_fail_where_distances_do_not() -> None:
    # Protocol, row 24: the farthest items have the largest products, so only the ends are found.
    (gallery, labels), (queries, query_labels) = on_an_arc(300, 1), on_an_arc(100, 2)
    (cut,) = truncations(gallery, labels, queries, query_labels, spectrum(gallery), sizes=(1,))
    assert cut.recall_euclidean_at_1 > 0.95
    assert cut.recall_dot_at_1 == cut.recall_dot_at_5 == pytest.approx(0.2)
    assert cut.recall_cosine_at_1 < 0.5
    assert cut.knn_accuracy > 0.95


def test_gallery_of_the_test_is_training_and_validation_set() -> None:
    # Each test item's own class stands in the validation set only, or in the training set only.
    points = functional.normalize(torch.randn(40, 6, generator=torch.Generator().manual_seed(0)), dim=1)
    outputs = Features(points, points, points)
    dataset = Dataset(
        training=without_images(torch.arange(40)),
        validation=without_images(torch.arange(40) + 40),
        test=without_images(torch.cat([torch.arange(20), torch.arange(20) + 60])),
    )
    metrics = evaluate_features(digits_trial(), dataset, outputs, outputs, outputs).metrics
    assert metrics["test_recall_at_1"] == 0.5  # the equal training item comes first
    assert metrics["test_recall_at_2"] == 1.0


def test_spectra_are_the_test_gallerys_and_correlations_the_validation_sets(result: Evaluation) -> None:
    _, (training, validation, _) = parts_of()
    for name, stage in STAGES.items():
        gallery = torch.cat([getattr(training, stage), getattr(validation, stage)])
        covariance = np.cov(gallery.double().numpy(), rowvar=False)
        variances = np.linalg.eigvalsh(covariance)[::-1]
        np.testing.assert_allclose(result.spectra[name].numpy(), variances, rtol=1e-6, atol=1e-12)
        expected = correlation_matrix(getattr(validation, stage))
        assert torch.equal(result.correlations[name], expected)


def test_tsne_is_finite_and_the_same_twice(result: Evaluation) -> None:
    dataset, _ = parts_of()
    assert result.tsne.shape == (60, 2) and result.tsne.dtype == np.float32
    assert np.isfinite(result.tsne).all() and result.tsne.std() > 0
    assert np.array_equal(result.tsne, evaluated().tsne)
    assert result.tsne_labels.tolist() == dataset.test.labels.tolist()


def test_tsne_of_one_component_or_a_few_points_is_finite_and_repeats() -> None:
    line = torch.linspace(0, 1, 30)[:, None] * torch.tensor([[1.0, 2.0, 3.0]])
    few = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    for points in (line, few):
        found = tsne_coordinates(points, spectrum(points), seed=1)
        assert found.shape == (len(points), 2) and np.isfinite(found).all()
        assert np.array_equal(found, tsne_coordinates(points, spectrum(points), seed=1))


def test_no_more_than_5000_points_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "_NUM_TSNE", 25)
    shortened = evaluated()
    assert shortened.tsne.shape == (25, 2) and len(shortened.tsne_labels) == 25


@pytest.fixture(scope="module")
def validation() -> Validation:
    return last_validation(CONFIG)


@pytest.fixture(scope="module")
def snapshot(validation: Validation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("snapshots") / "epoch_1"
    write_snapshot(folder, CONFIG, validation, with_embeddings=False)
    return folder


@pytest.fixture(scope="module")
def written(snapshot: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """A finished evaluation, and what the call returned."""
    folder = tmp_path_factory.mktemp("evaluations") / "trial/epoch_1"
    return folder, evaluate_snapshot(snapshot, folder)


@pytest.fixture
def without_tsne(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "tsne_coordinates", lambda points, *_: np.zeros((len(points), 2)))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_exactly_the_announced_files_are_written(written: tuple[Path, dict[str, float]]) -> None:
    folder, _ = written
    assert contents(folder).keys() == FILES
    assert list(folder.parent.iterdir()) == [folder]


def test_summary_has_the_snapshots_report_beside_the_test_metrics(
    written: tuple[Path, dict[str, float]], validation: Validation
) -> None:
    folder, metrics = written
    summary = json.loads((folder / SUMMARY).read_text())
    assert summary.pop("num_embedded") == {"training": 1197, "validation": 300, "test": 300}
    assert summary == {"epoch": 1, "test": metrics, "validation": validation.report.metrics}


def test_returned_metrics_are_those_of_the_model(
    written: tuple[Path, dict[str, float]], validation: Validation, digits: Dataset
) -> None:
    model = validation.model.eval()
    with torch.no_grad():
        gallery, queries = (model(part.items) for part in (digits.test_gallery(), digits.test))
    expected = evaluate(gallery, digits.test_gallery().labels, queries, digits.test.labels)
    _, metrics = written
    for name in ("knn_accuracy", "recall_at_1", "recall_at_20", "d_eff"):
        assert metrics[f"test_{name}"] == pytest.approx(expected[name], abs=0.01)


def test_tables_have_their_columns(written: tuple[Path, dict[str, float]]) -> None:
    folder, _ = written
    columns = {
        TRUNCATION: list(Truncation._fields),
        TRUNCATION_CURVE: list(CurvePoint._fields),
        RECALL: ["k", "test", "validation"],
        SPECTRUM: ["stage", "component", "variance", "cumulative_share"],
        TSNE: ["x", "y", "label"],
    }
    tables = {name: pd.read_parquet(folder / name) for name in columns}
    assert {name: list(table.columns) for name, table in tables.items()} == columns
    assert {name: len(table) for name, table in tables.items()} == {
        TRUNCATION: 3,
        TRUNCATION_CURVE: 128,
        RECALL: NUM_RECALLS,
        SPECTRUM: 3 * 128,
        TSNE: 300,
    }
    assert not any(table.isna().any(axis=None) for table in tables.values())


def test_recalls_of_test_and_validation_stand_side_by_side(
    written: tuple[Path, dict[str, float]], validation: Validation
) -> None:
    folder, metrics = written
    table = pd.read_parquet(folder / RECALL)
    assert table["k"].tolist() == list(range(1, 21))
    assert table["test"].tolist() == [metrics[f"test_recall_at_{k}"] for k in range(1, 21)]
    expected = [validation.report.metrics[f"recall_at_{k}"] for k in range(1, 21)]
    assert table["validation"].tolist() == expected
    assert table["test"].is_monotonic_increasing


def test_truncations_of_a_width_of_128_start_at_64(written: tuple[Path, dict[str, float]]) -> None:
    table = pd.read_parquet(written[0] / TRUNCATION)
    assert table["components"].tolist() == [64, 16, 8]
    assert table["reconstruction_error"].is_monotonic_increasing


def test_spectra_agree_with_the_test_d_eff(written: tuple[Path, dict[str, float]]) -> None:
    table = pd.read_parquet(written[0] / SPECTRUM)
    assert list(table["stage"].unique()) == list(STAGES)
    for stage in STAGES:
        part = table.loc[np.array(table["stage"]) == stage]
        shares, variances = np.array(part["cumulative_share"]), np.array(part["variance"])
        assert part["component"].tolist() == list(range(1, 129))
        assert (np.diff(variances) <= 0).all() and (variances >= 0).all()
        assert (np.diff(shares) >= 0).all() and shares[-1] == pytest.approx(1, abs=1e-12)
        if stage == "embedding":
            assert 1 + (shares < 0.99).sum() == written[1]["test_d_eff"]


def test_correlations_are_symmetric_with_a_unit_diagonal(
    written: tuple[Path, dict[str, float]], validation: Validation
) -> None:
    assert validation.queries is not None
    with np.load(written[0] / CORRELATION, allow_pickle=False) as archive:
        matrices = dict(archive)
    assert matrices.keys() == STAGES.keys()
    for name, matrix in matrices.items():
        assert matrix.dtype == np.float32 and matrix.shape == (128, 128)
        assert (matrix.diagonal() == 1).all() and np.abs(matrix).max() <= 1
        np.testing.assert_allclose(matrix, matrix.T, rtol=0, atol=1e-7)
        expected = correlation_matrix(getattr(validation.queries, STAGES[name])).numpy()
        np.testing.assert_allclose(matrix, expected, rtol=0, atol=1e-4)


@pytest.mark.usefixtures("without_tsne")
def test_evaluation_repeats(snapshot: Path, tmp_path: Path) -> None:
    first, again = (evaluate_snapshot(snapshot, tmp_path / name) for name in ("first", "again"))
    assert first == pytest.approx(again, rel=1e-9)
    assert contents(tmp_path / "first").keys() == contents(tmp_path / "again").keys()


@pytest.mark.usefixtures("without_tsne")
def test_new_evaluation_replaces_the_old_one_whole(snapshot: Path, tmp_path: Path) -> None:
    folder = tmp_path / "epoch_1"
    folder.mkdir()
    (folder / "older.txt").write_text("of another version")
    evaluate_snapshot(snapshot, folder)
    assert contents(folder).keys() == FILES
    assert list(tmp_path.iterdir()) == [folder]


def fail(*_: Any, **__: Any) -> None:
    raise OSError(28, "No space left on device")


FAILURES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "tables": lambda patch: patch.setattr(pd.DataFrame, "to_parquet", fail),
    "matrices": lambda patch: patch.setattr(np, "savez_compressed", fail),
    "metrics": lambda patch: patch.setattr(evaluation, "evaluate", fail),
}


@pytest.mark.usefixtures("without_tsne")
@pytest.mark.parametrize("place", FAILURES)
def test_failing_evaluation_leaves_what_was_there(
    snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    folder = tmp_path / "epoch_1"
    evaluate_snapshot(snapshot, folder)
    before = contents(folder)
    FAILURES[place](monkeypatch)
    for target in (folder, tmp_path / "epoch_2"):
        with pytest.raises(OSError, match=r"No space left|its disk is full"):
            evaluate_snapshot(snapshot, target)
    assert list(tmp_path.iterdir()) == [folder]
    assert contents(folder) == before


@pytest.mark.usefixtures("without_tsne")
def test_snapshot_of_a_gpu_is_evaluated_on_the_named_device(
    validation: Validation, tmp_path: Path, written: tuple[Path, dict[str, float]]
) -> None:
    config = CONFIG.model_copy(update={"device": "cuda"})
    write_snapshot(tmp_path / "epoch_1", config, validation, with_embeddings=False)
    metrics = evaluate_snapshot(tmp_path / "epoch_1", tmp_path / "evaluation", device="cpu")
    assert metrics == pytest.approx(written[1], rel=1e-9)


@pytest.mark.usefixtures("without_tsne")
def test_folder_that_is_no_snapshot_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a snapshot"):
        evaluate_snapshot(tmp_path, tmp_path / "evaluation")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("without_tsne")
def test_collapsed_model_is_evaluated(validation: Validation, tmp_path: Path) -> None:
    # Every embedding is the same: no variance, no correlation.
    model = validation.model
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    constant = {
        name: torch.zeros_like(t) for name, t in state.items() if name.startswith("head.2.weight")
    }
    model.load_state_dict(state | constant)
    try:
        write_snapshot(tmp_path / "epoch_1", CONFIG, replace(validation), with_embeddings=False)
    finally:
        model.load_state_dict(state)
    metrics = evaluate_snapshot(tmp_path / "epoch_1", tmp_path / "evaluation")
    assert all(math.isfinite(value) for value in metrics.values())
    assert metrics["test_d_eff"] == 1 and metrics["test_correlation_rms"] == 0
