"""One root seed a trial, one independent stream a purpose.

Streams of their own keep a change in one place (another head, say) from shifting the draws of all
the others: trials with one seed see the same order of data whatever their head.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch


def derive_seed(root: int, purpose: str) -> int:
    """A 63-bit seed for one purpose, independent of the seeds of other purposes."""
    sequence = np.random.SeedSequence([root, zlib.crc32(purpose.encode())])
    return int(sequence.generate_state(1, np.uint64)[0] >> 1)


def generator(root: int, purpose: str) -> torch.Generator:
    """A CPU generator for one purpose."""
    return torch.Generator().manual_seed(derive_seed(root, purpose))
