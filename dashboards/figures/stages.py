"""The stages of a model whose vectors are measured: their names on a page, and their colours."""

from __future__ import annotations

from dashboards.figures.style import SERIES

STAGE_NAMES = {
    "encoder": "encoder's output",
    "unnormalized": "head's output before L2",
    "embedding": "embedding",
    "untouched": "untouched encoder",
}
STAGE_COLOURS = {
    "encoder": SERIES[2],
    "unnormalized": SERIES[1],
    "embedding": SERIES[0],
    "untouched": SERIES[5],
}
