"""The paper's results as points of a front, where a sweep is of the paper's data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dashboards.table_plans import PLANS, SCALES, Measure
from trainables.config import TrialConfig

Paper = Mapping[str, Any]
_TABLES = ("table_1a", "table_1b", "table_2")
"""Those of whole embeddings; Table 3's are cut down."""


def paper_points(paper: Paper, config: TrialConfig) -> dict[str, dict[str, float]]:
    """Of each head kind the paper's values by metric, in the units of this project.

    Args:
        paper: the content of paper_results.yaml.
        config: of the sweep's trials; on a part of the data the paper's results would say nothing.
    """
    if config.data.num_classes is not None or config.data.num_training_items is not None:
        return {}
    points: dict[str, dict[str, float]] = {}
    for table in _TABLES:
        for kind, values in paper[table].get(config.dataset, {}).items():
            points.setdefault(kind, {}).update(_converted(values))
    return points


def _converted(values: Mapping[str, float]) -> dict[str, float]:
    measures = _measures()
    return {
        measures[name].metric: value / SCALES[measures[name].unit]
        for name, value in values.items()
        if name in measures
    }


def _measures() -> dict[str, Measure]:
    """Of whole embeddings and of the head itself, by their names in the paper's tables."""
    return {
        measure.paper: measure
        for plans in PLANS.values()
        for plan in plans.values()
        for measure in plan.measures
        if measure.paper is not None and not measure.paper_row and not plan.is_cut
    }
