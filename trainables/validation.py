"""Validation: a model's outputs for whole datasets, and all metrics of them.

Called by `trainables.training` at each validation; what a listener is given is defined here too.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from trainables.data import Dataset, Items, Part
from trainables.distributed import SINGLE, WorkerGroup
from trainables.metrics import compactness, correlation_rms, effective_dimension
from trainables.models import Embedder, Features
from trainables.reports import TRAINING_METRICS, EpochReport, metrics_of

_EMBED_ROWS = {"cpu": 64, "cuda": 1024}
"""Images embedded at once: on a CPU few enough for its caches (0.7 ms an image of resnet8, not 1.3)."""
_EMBED_SENTENCES = 4096
"""Sentences that are put into buckets of like length together, which are then embedded one by one."""


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
        nan = dict.fromkeys(metrics_of(dataset.task).keys() - set(TRAINING_METRICS), math.nan)
        return ValidationResult(nan, gallery, queries)
    metrics = {
        **dataset.quality(gallery.embedding, queries.embedding),
        **compactness(gallery.embedding, queries.embedding),
    }
    metrics["encoder_d_eff"] = effective_dimension(gallery.encoded)
    metrics["unnormalized_d_eff"] = effective_dimension(gallery.projected)
    metrics["correlation_rms"] = correlation_rms(queries.embedding)
    metrics["encoder_correlation_rms"] = correlation_rms(queries.encoded)
    metrics["unnormalized_correlation_rms"] = correlation_rms(queries.projected)
    metrics["validation_time_s"] = time.perf_counter() - started
    return ValidationResult(metrics, gallery, queries)


@torch.no_grad()
def embed(model: Embedder, data: Part, group: WorkerGroup = SINGLE) -> Features:
    """Encoder output, head output and embedding of every item, in the items' order."""
    model.eval()
    chunks = [model.features(chunk) for chunk in _chunks(data.items, group)]
    stages: list[Float[Tensor, "item dim"]] = [torch.cat(parts) for parts in zip(*chunks, strict=True)]
    return Features(*(group.gather(stage, len(data.items)) for stage in stages))


def _chunks(items: Items, group: WorkerGroup) -> Iterator[Items]:
    """This worker's share; one chunk where it is empty, so that its columns' number is known."""
    if isinstance(items, Tensor):
        yield from group.share(items).split(_EMBED_ROWS[items.device.type])
    else:
        for rows in group.share(torch.arange(len(items))).split(_EMBED_SENTENCES):
            yield items[rows]
