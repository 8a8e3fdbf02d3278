"""Correlation matrices at a few epochs of a training, for the paper's Fig. 3.

Written by `trainables.ray_train` while a trial trains, since most epochs leave no snapshot behind.
"""

from __future__ import annotations

import io
import uuid
from pathlib import Path

import numpy as np

from trainables.disk import says_where_it_is_full
from trainables.metrics import correlation_matrix
from trainables.models import Features
from trainables.places import Place, is_url, write_object

SHARE = 0.2
"""Of the validation set, its end: 1,000 held-out images of CIFAR, 2 % of the training images."""


def is_traced(epoch: int, validate_every: int) -> bool:
    """Whether an epoch leaves a trace: the first validation, then each at twice the last one's epoch."""
    number, rest = divmod(epoch, validate_every)
    return rest == 0 and number.bit_count() == 1


def write_trace(path: Place, queries: Features) -> None:
    """Writes the correlation matrices of all three stages, float16, whole or not at all.

    Raises:
        trainables.disk.DiskFullError: the disk is full.
        OSError: the store does not take it.
    """
    first = len(queries.encoded) - round(SHARE * len(queries.encoded))
    stages = {
        "encoder": queries.encoded,
        "unnormalized": queries.projected,
        "embedding": queries.embedding,
    }
    matrices = {
        name: correlation_matrix(vectors[first:]).half().cpu().numpy()
        for name, vectors in stages.items()
    }
    if is_url(path):
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **matrices)
        write_object(path, buffer.getvalue())
        return
    path = Path(path)
    partial = path.with_name(f".{uuid.uuid4().hex}.npz")
    try:
        with says_where_it_is_full(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(partial, allow_pickle=False, **matrices)
            partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)
