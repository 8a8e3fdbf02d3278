"""A logarithmic axis of numbers of dimensions, which are whole."""

from __future__ import annotations

from typing import Any

from dashboards.figures.axes import log_axis

_TICKS = [digit * 10**decade for decade in range(5) for digit in (1, 2, 5)]


def dimension_axis(title: str) -> dict[str, Any]:
    """A plotly axis; it draws those of the ticks that are in its range."""
    return {"title": {"text": title}, **log_axis(logarithmic=True, ticks=_TICKS)}
