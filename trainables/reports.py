"""What a trial tells its listener: the names of the metrics, once, and the report that carries them.

Torch-free, so that search spaces can be checked against the names in a moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Direction = Literal["min", "max"]
Task = Literal["classification", "similarity"]
"""What embeddings are judged by: the labels of images' neighbours, or the scores of sentence pairs."""
NUM_RECALLS = 20
TRUNCATIONS = (128, 64, 16, 8)
"""Numbers of components that a final evaluation cuts embeddings down to (paper, Table 3, and 8)."""
MANIFEST = "snapshot.json"
"""The file that makes a folder a snapshot."""
SUMMARY = "summary.json"
"""This and the next are the files of a final evaluation."""
TRUNCATION = "truncation.parquet"
TRUNCATION_CURVE = "truncation_curve.parquet"
"""The same for every number of components; evaluations from before it was added have none."""
RECALL = "recall.parquet"
SPECTRUM = "spectrum.parquet"
CORRELATION = "correlation.npz"
TSNE = "tsne.parquet"
UNTOUCHED = "untouched.parquet"
VARIANCE_SHARES: dict[str, float] = {
    "d_eff_90": 0.90,
    "d_eff_95": 0.95,
    "d_eff": 0.99,
    "d_eff_999": 0.999,
}


@dataclass(frozen=True)
class Metric:
    """A number that every validation yields.

    Attributes:
        direction: which way is better.
        description: one line with unit.
        worst: the worst value there can be (the hypervolume's reference), `"embedding_dim"` where
            it is the embedding's width, None where there is no such bound.
        task: the one task that yields it; None for all.
    """

    direction: Direction
    description: str
    worst: float | Literal["embedding_dim"] | None = None
    task: Task | None = None


METRICS: dict[str, Metric] = {
    "knn_accuracy": Metric(
        "max", "5-NN accuracy on the validation queries, fraction", 0.0, "classification"
    ),
    **{
        f"recall_at_{k}": Metric(
            "max", f"share of queries with a hit among {k} nearest", 0.0, "classification"
        )
        for k in range(1, NUM_RECALLS + 1)
    },
    # 0 rather than -1 is the worst: what scores that have nothing to do with the pairs give.
    "spearman": Metric(
        "max",
        "Spearman correlation of cosine similarity and score on validation pairs",
        0.0,
        "similarity",
    ),
    **{
        name: Metric("min", f"principal components for {share:.1%} of variance", "embedding_dim")
        for name, share in VARIANCE_SHARES.items()
    },
    "reconstruction_error": Metric("min", "RMS residual of queries on d_eff components"),
    "reconstruction_error_relative": Metric(
        "min", "squared residual as a share of the queries' total variance", 1.0
    ),
    "embedding_bytes": Metric("min", "bytes of an embedding on its d_eff components, float32"),
    "encoder_d_eff": Metric("min", "d_eff of the encoder's own output", "embedding_dim"),
    "unnormalized_d_eff": Metric("min", "d_eff of the head's output before L2", "embedding_dim"),
    "correlation_rms": Metric("min", "RMS off-diagonal correlation of the embedding's features", 1.0),
    "encoder_correlation_rms": Metric("min", "the same of the encoder's own output", 1.0),
    "unnormalized_correlation_rms": Metric("min", "the same of the head's output before L2", 1.0),
    "train_loss": Metric("min", "mean SupCon loss of the epoch"),
    "no_positive_share": Metric("min", "share of anchors without a positive in their batch", 1.0),
    "epoch_time_s": Metric("min", "wall time of the epoch's training, seconds"),
    "validation_time_s": Metric("min", "wall time of the validation, seconds"),
}

METRIC_NAMES_IN_SHORT = [n for n in METRICS if not n.startswith("recall")] + [
    "recall_at_1 .. recall_at_20"
]
SELECTED_BY: dict[Task, str] = {"classification": "knn_accuracy", "similarity": "spearman"}
"""The metric by which a training is stopped early, and its best epoch chosen."""
TRAINING_METRICS = ("train_loss", "no_positive_share", "epoch_time_s")
"""The metrics that every epoch has, validated or not."""


def metrics_of(task: Task) -> dict[str, Metric]:
    """The metrics that a task's validations yield."""
    return {name: metric for name, metric in METRICS.items() if metric.task in (None, task)}


@dataclass(frozen=True)
class EpochReport:
    """One validation.

    Attributes:
        epoch: epochs of the main phase completed, from 1.
        metrics: every name in METRICS of the training's task.
        training: the TRAINING_METRICS of each epoch since the last report, by epoch.
    """

    epoch: int
    metrics: dict[str, float]
    training: dict[int, dict[str, float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> EpochReport:
        """Reads back `to_dict`, also after JSON has turned the epochs into strings."""
        return EpochReport(
            epoch=int(data["epoch"]),
            metrics=dict(data["metrics"]),
            training={int(epoch): dict(values) for epoch, values in data["training"].items()},
        )


class DivergedError(RuntimeError):
    """The loss or the embeddings stopped being finite numbers.

    Survives pickling, so that it crosses the border of a Ray actor whole.
    """

    def __init__(self, epoch: int, phase: str) -> None:
        self.epoch = epoch
        self.phase = phase
        rates = "warmup.head_lr" if phase == "warm-up" else "optimizer.head_lr or encoder_lr_ratio"
        super().__init__(
            f"training diverged: loss or embeddings are not finite in {phase} epoch {epoch}; "
            f"lower {rates}, or raise temperature"
        )

    def __reduce__(self) -> tuple[type[DivergedError], tuple[int, str]]:
        return DivergedError, (self.epoch, self.phase)
