"""The final evaluation of one snapshot: test metrics and the data behind the paper's figures.

Called by `orchestrator.final_evaluation` for the points that a sweep keeps, or by hand for any snapshot.
The gallery of the test queries is the whole training set, validation images included; of sentences see
`trainables.similarity_evaluation`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from trainables.config import HeadConfig, TrialConfig
from trainables.data import Dataset as AnyDataset
from trainables.data import load_dataset
from trainables.execution import choose_device
from trainables.images import Dataset
from trainables.metrics import (
    Spectrum,
    correlation_matrix,
    correlation_rms,
    evaluate,
    knn_accuracy,
    nearest_labels,
    recalls,
    reconstruction_errors,
    spectrum,
    top_product_labels,
)
from trainables.models import Embedder, Features, build_model
from trainables.places import Place
from trainables.randomness import derive_seed
from trainables.reports import (
    CORRELATION,
    NUM_RECALLS,
    RECALL,
    SPECTRUM,
    SUMMARY,
    TRUNCATION,
    TRUNCATION_CURVE,
    TRUNCATIONS,
    TSNE,
)
from trainables.sentences import SentenceDataset
from trainables.similarity_evaluation import Parts, evaluate_similarity
from trainables.snapshots import read_snapshot
from trainables.spectra import spectrum_table
from trainables.truncation_curves import CurvePoint, truncation_curve
from trainables.validation import embed
from trainables.whole_folder import whole_folder

if TYPE_CHECKING:
    import pandas as pd

_NUM_TSNE = 5000
_TSNE_PERPLEXITY = 30


class Truncation(NamedTuple):
    """Test metrics of embeddings projected on the first principal components of the gallery.

    Attributes:
        components: number of components kept.
        knn_accuracy: 5-NN by Euclidean distance.
        recall_dot_at_1: Recall ranked by the inner product of centred coordinates, as the paper's
            published code ranks it; `cosine` by their cosine, `euclidean` by their distance.
        reconstruction_error: RMS residual of the test embeddings per entry.
        reconstruction_error_relative: squared residual as a share of their variance.
    """

    components: int
    knn_accuracy: float
    recall_dot_at_1: float
    recall_dot_at_5: float
    recall_cosine_at_1: float
    recall_cosine_at_5: float
    recall_euclidean_at_1: float
    recall_euclidean_at_5: float
    reconstruction_error: float
    reconstruction_error_relative: float


@dataclass(frozen=True)
class Evaluation:
    """The numbers of one snapshot.

    Attributes:
        metrics: `test_NAME` for every metric of an evaluation.
        truncations: one for each of TRUNCATIONS that is below the embedding's width.
        curve: fewer numbers of each, for every number of components and the first test queries.
        spectra: per stage (encoder, unnormalized, embedding) the principal variances of all training
            images, validation included: `test_d_eff` is read off the embedding's.
        correlations: per stage the correlation matrix on the validation set.
        tsne: (item, 2), coordinates of the first test embeddings.
        tsne_labels: (item,)
    """

    metrics: dict[str, float]
    truncations: list[Truncation]
    curve: list[CurvePoint]
    spectra: dict[str, Float[Tensor, " dim"]]
    correlations: dict[str, Float[Tensor, "dim dim"]]
    tsne: np.ndarray
    tsne_labels: np.ndarray


def evaluate_snapshot(
    snapshot_folder: Place, folder: Place, device: str | None = None
) -> dict[str, float]:
    """Evaluates a snapshot, writes the results to `folder`, whole or absent, and returns the metrics.

    Args:
        snapshot_folder: where the snapshot is.
        folder: where the results go; replaced if it exists.
        device: in place of the snapshot's own choice.
    """
    snapshot = read_snapshot(snapshot_folder)
    config = snapshot.config if device is None else snapshot.config.model_copy(update={"device": device})
    torch_device = choose_device(config)
    dataset = load_dataset(config, torch_device)
    parts = _embed_parts(snapshot.model.to(torch_device), dataset)
    validation_metrics = snapshot.report.metrics
    if isinstance(dataset, SentenceDataset):
        result = evaluate_similarity(dataset, parts, _untouched_parts(_before(config), torch_device))
        tables = result.tables()
    else:
        result = evaluate_features(config, dataset, *parts)
        tables = _tables(result, validation_metrics)
    summary = {
        "epoch": snapshot.report.epoch,
        "test": result.metrics,
        "validation": validation_metrics,
        "num_embedded": {name: len(part.embedding) for name, part in parts._asdict().items()},
    }
    _write(folder, summary, tables, result.correlations)
    return result.metrics


def _before(config: TrialConfig) -> str:
    """The configuration of the untouched encoder, the same for all trainings that begin with it."""
    kept = {name: getattr(config, name) for name in ("dataset", "data", "augmentation", "precision")}
    encoder = {name: getattr(config, name) for name in ("encoder", "encoder_dim", "encoder_weights")}
    return TrialConfig(**kept, **encoder, head=HeadConfig(kind="none")).model_dump_json()


@functools.lru_cache(maxsize=1)
def _untouched_parts(settings: str, device: torch.device) -> Parts:
    """The untouched encoder's outputs, once a process: the points of a sweep have it in common."""
    config = TrialConfig.model_validate_json(settings)
    return _embed_parts(build_model(config).to(device), load_dataset(config, device))


def _embed_parts(model: Embedder, dataset: AnyDataset) -> Parts:
    parts = dataset.training, dataset.validation, dataset.test
    return Parts(*(embed(model, part) for part in parts))


def evaluate_features(
    config: TrialConfig, dataset: Dataset, training: Features, validation: Features, test: Features
) -> Evaluation:
    """Evaluates a model's outputs for the three parts of its dataset."""
    stages = {"encoder": "encoded", "unnormalized": "projected", "embedding": "embedding"}
    galleries = {
        name: torch.cat([getattr(part, stage) for part in (training, validation)])
        for name, stage in stages.items()
    }
    spectra = {name: spectrum(vectors) for name, vectors in galleries.items()}
    gallery, components = galleries["embedding"], spectra["embedding"]
    labels = torch.cat([dataset.training.labels, dataset.validation.labels])
    metrics = evaluate(gallery, labels, test.embedding, dataset.test.labels)
    metrics["correlation_rms"] = correlation_rms(test.embedding)
    ranked = gallery, labels, test.embedding, dataset.test.labels, components
    points, point_labels = test.embedding[:_NUM_TSNE], dataset.test.labels[:_NUM_TSNE]
    return Evaluation(
        metrics={f"test_{name}": value for name, value in metrics.items()},
        truncations=truncations(*ranked),
        curve=truncation_curve(*ranked),
        spectra={name: found.variances for name, found in spectra.items()},
        correlations={n: correlation_matrix(getattr(validation, stage)) for n, stage in stages.items()},
        tsne=tsne_coordinates(points, components, config.seed),
        tsne_labels=point_labels.cpu().numpy(),
    )


def truncations(
    gallery: Float[Tensor, "item dim"],
    gallery_labels: Tensor,
    queries: Float[Tensor, "query dim"],
    query_labels: Tensor,
    components: Spectrum,
    sizes: Sequence[int] = TRUNCATIONS,
) -> list[Truncation]:
    """Metrics on the first k components, for each k below the width (paper, Table 3)."""
    errors = reconstruction_errors(queries, components)
    gallery_coordinates = (gallery.double() - components.mean) @ components.components
    query_coordinates = (queries.double() - components.mean) @ components.components
    results = []
    for k in (size for size in sizes if size < gallery.shape[1]):
        items, questions = gallery_coordinates[:, :k], query_coordinates[:, :k]
        euclidean = nearest_labels(questions, items, gallery_labels)
        unit_items = torch.nn.functional.normalize(items, dim=1)
        cosine = top_product_labels(questions, unit_items, gallery_labels)
        dot = top_product_labels(questions, items, gallery_labels)
        ranked = {"dot": dot, "cosine": cosine, "euclidean": euclidean}
        found = {name: recalls(neighbours, query_labels) for name, neighbours in ranked.items()}
        by = {f"recall_{n}_at_{k}": found[n][f"recall_at_{k}"] for n in found for k in (1, 5)}
        results.append(
            Truncation(
                components=k,
                knn_accuracy=knn_accuracy(euclidean, query_labels),
                reconstruction_error=float(errors.absolute[k]),
                reconstruction_error_relative=float(errors.relative[k]),
                **by,
            )
        )
    return results


def tsne_coordinates(vectors: Float[Tensor, "item dim"], components: Spectrum, seed: int) -> np.ndarray:
    """(item, 2) t-SNE coordinates, from the components with 99.9 % of the variance (paper, Fig. 5)."""
    from sklearn import manifold

    k = components.num_components(0.999)
    coordinates = (vectors.double() - components.mean) @ components.components[:, :k]
    perplexity = min(_TSNE_PERPLEXITY, (len(vectors) - 1) / 3)
    tsne = manifold.TSNE(
        perplexity=perplexity,
        init="pca" if k > 1 else "random",
        random_state=derive_seed(seed, "t-SNE") % 2**32,
    )
    return tsne.fit_transform(coordinates.float().cpu().numpy()).astype(np.float32)


def _write(
    folder: Place,
    summary: dict[str, object],
    tables: Mapping[str, pd.DataFrame],
    correlations: Mapping[str, Tensor],
) -> None:
    with whole_folder(folder) as partial:
        (partial / SUMMARY).write_text(json.dumps(summary, indent=2))
        for name, table in tables.items():
            table.to_parquet(partial / name, index=False)
        matrices = {name: m.float().cpu().numpy() for name, m in correlations.items()}
        np.savez_compressed(partial / CORRELATION, allow_pickle=False, **matrices)


def _tables(result: Evaluation, validation_metrics: dict[str, float]) -> dict[str, pd.DataFrame]:
    import pandas as pd

    ranks = range(1, NUM_RECALLS + 1)
    return {
        TRUNCATION: pd.DataFrame(result.truncations, columns=Truncation._fields),
        TRUNCATION_CURVE: pd.DataFrame(result.curve, columns=CurvePoint._fields),
        RECALL: pd.DataFrame(
            {
                "k": ranks,
                "test": [result.metrics[f"test_recall_at_{k}"] for k in ranks],
                "validation": [validation_metrics[f"recall_at_{k}"] for k in ranks],
            }
        ),
        SPECTRUM: spectrum_table(result.spectra),
        TSNE: pd.DataFrame(
            {"x": result.tsne[:, 0], "y": result.tsne[:, 1], "label": result.tsne_labels}
        ),
    }
