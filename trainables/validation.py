"""Validation: a model's outputs for whole datasets, and all metrics of them.

Called by `trainables.training` at each validation; what a listener is given is defined here too.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from trainables.distributed import SINGLE, WorkerGroup
from trainables.images import Dataset, Subset
from trainables.metrics import correlation_rms, effective_dimension, evaluate
from trainables.models import Embedder, Features
from trainables.reports import METRICS, TRAINING_METRICS, EpochReport

_EMBED_ROWS = {"cpu": 64, "cuda": 1024}
"""Items embedded at once: on a CPU few enough for its caches (0.7 ms an image of resnet8, not 1.3)."""


@dataclass(frozen=True)
class Validation:
    """What a listener is given: the report, and the model that it is about.

    Attributes:
        report: the numbers.
        model: as it is now; the next epoch changes it.
        dataset: what it is trained and validated on.
        gallery: the model's outputs for the training set; None on all workers but the first.
        queries: the same for the validation set.
    """

    report: EpochReport
    model: Embedder
    dataset: Dataset
    gallery: Features | None
    queries: Features | None

    @property
    def is_chief(self) -> bool:
        """Whether this is the one worker of its group that should write files."""
        return self.queries is not None


class ValidationResult(NamedTuple):
    """All metrics, and the outputs for both sets; empty and None but on the first worker."""

    metrics: dict[str, float]
    gallery: Features | None
    queries: Features | None


def validate(model: Embedder, dataset: Dataset, group: WorkerGroup = SINGLE) -> ValidationResult:
    """All metrics of the model as it is: gallery = training set, queries = validation set.

    NaN, all of them, where an output is not finite.
    """
    started = time.perf_counter()
    gallery = embed(model, dataset.training, group)
    queries = embed(model, dataset.validation, group)
    if group.rank:
        return ValidationResult({}, None, None)
    vectors = (gallery.encoded, gallery.projected, queries.encoded, queries.projected)
    if not all(bool(stage.isfinite().all()) for stage in vectors):
        nan = dict.fromkeys(METRICS.keys() - set(TRAINING_METRICS), math.nan)
        return ValidationResult(nan, gallery, queries)
    metrics = evaluate(
        gallery.embedding, dataset.training.labels, queries.embedding, dataset.validation.labels
    )
    metrics["encoder_d_eff"] = effective_dimension(gallery.encoded)
    metrics["unnormalized_d_eff"] = effective_dimension(gallery.projected)
    metrics["correlation_rms"] = correlation_rms(queries.embedding)
    metrics["encoder_correlation_rms"] = correlation_rms(queries.encoded)
    metrics["unnormalized_correlation_rms"] = correlation_rms(queries.projected)
    metrics["validation_time_s"] = time.perf_counter() - started
    return ValidationResult(metrics, gallery, queries)


@torch.no_grad()
def embed(model: Embedder, data: Subset, group: WorkerGroup = SINGLE) -> Features:
    """Encoder output, head output and embedding of every item, in the items' order."""
    model.eval()
    own = group.share(data.items)
    # An empty share still goes through the model once: its columns' number must be known.
    chunks = [model.features(chunk) for chunk in own.split(_EMBED_ROWS[own.device.type])]
    stages: list[Float[Tensor, "item dim"]] = [torch.cat(parts) for parts in zip(*chunks, strict=True)]
    return Features(*(group.gather(stage, len(data)) for stage in stages))
