"""The words, numbers and tables of a point's page: HTML in which what came from outside is escaped."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import NamedTuple

from dashboards.feature_blocks import FeatureBlocks
from dashboards.figures.axes import number
from dashboards.figures.recall_curve import RecallCurveInfo
from dashboards.figures.stages import STAGE_NAMES
from dashboards.page import table
from dashboards.point_files import PointFiles
from dashboards.sweep_story import SweepStory
from orchestrator.trials import Point, Trial

_TABULATED = (
    "knn_accuracy",
    "recall_at_1",
    "recall_at_5",
    "spearman",
    "d_eff",
    "reconstruction_error",
    "reconstruction_error_relative",
    "correlation_rms",
    "embedding_bytes",
)


class ShownPoint(NamedTuple):
    """What a page is about.

    Attributes:
        story: of the sweep.
        trial: whose epoch it is.
        point: the epoch's validation.
        test: metrics of its final evaluation; empty where it failed.
        of_images: whether labels are known; else it is of pairs of sentences.
        files: the evaluation's.
    """

    story: SweepStory
    trial: Trial
    point: Point
    test: Mapping[str, float]
    of_images: bool
    files: PointFiles

    @property
    def items(self) -> str:
        """What its datasets are of."""
        return "images" if self.of_images else "sentences"


def summary(shown: ShownPoint) -> str:
    """Its head, its objectives, its run to copy, its metrics and what was searched."""
    story, trial, point = shown.story, shown.trial, shown.point
    head = str(trial.config["head"]["kind"])
    values = {name: point.metrics[name] for name in story.settings.objectives if name in point.metrics}
    large = {"head": head, **{f"{name}, validation": _number(v) for name, v in values.items()}}
    large |= {
        f"{name}, test": _number(shown.test[f"test_{name}"])
        for name in values
        if f"test_{name}" in shown.test
    }
    boxes = "".join(
        f"<div><span>{html.escape(name)}</span><b>{html.escape(value)}</b></div>"
        for name, value in large.items()
    )
    run_id = story.record.run_ids.get(trial.name, "")
    run = f"<p>run <code>{html.escape(trial.name)}</code></p>"
    if run_id:
        run += f"<p>run id <code>{html.escape(run_id)}</code></p>"
    rows = [
        (name, _number(point.metrics[name]), _number(shown.test.get(f"test_{name}")))
        for name in _TABULATED
        if name in point.metrics
    ]
    metrics = table(("metric", "validation", "test"), rows, (False, True, True))
    searched = table(
        ("searched", "value"), [(name, _number(value)) for name, value in trial.parameters.items()]
    )
    return (
        f'<div class="figures">{boxes}</div>{run}{_note_of_evaluation(shown)}{metrics}'
        f"<details><summary>what was searched</summary>{searched}</details>"
    )


def _note_of_evaluation(shown: ShownPoint) -> str:
    notes = []
    if not shown.test:
        notes.append("This point has no final evaluation, or it failed: there are no test metrics.")
    notes += [f"{name} cannot be read: {fault}." for name, fault in shown.files.faults.items()]
    return "".join(f"<p>{html.escape(note)}</p>" for note in notes)


def _number(value: object) -> str:
    """A value as people read it; a dash for none."""
    return "-" if value is None else number(value)


def conditions_of_correlation(shown: ShownPoint) -> str:
    """What the correlations are of, beside what the paper's are of."""
    num = shown.files.num_embedded.get("validation")
    of = f"the {num:,} validation {shown.items}" if num else f"the validation {shown.items}"
    return f"Pearson correlation of the features on {of}; the paper's is on 5,000 training images."


def table_of_blocks(blocks: Mapping[str, FeatureBlocks]) -> str:
    """How clear the groups of features are, by stage."""
    rows = [
        (STAGE_NAMES[name], str(len(b.order)), f"{b.rms:.3f}", f"{b.modularity:.3f}", str(b.num_blocks))
        for name, b in blocks.items()
    ]
    head = ("stage", "features", "RMS correlation", "modularity", "blocks")
    return table(head, rows, (False, True, True, True, True)) + (
        '<p class="soft">Modularity is Newman\'s, of the network of features whose edges weigh r², '
        "and largest over the cuts of the dendrogram: 0 is no block structure, k equal blocks with "
        "nothing in common have 1 - 1/k.</p>"
    )


def compared(drawn: RecallCurveInfo, baseline: Point | None, is_baseline: bool) -> str:
    """How the point's Recall@k stands to the baseline's, or why there is no other curve."""
    if is_baseline:
        return "This point is the baseline."
    if baseline is None:
        return "The sweep has no baseline to compare with."
    if len(drawn.curves) < 2:
        return "The baseline has no Recall@k."
    found = (
        f"From k = {drawn.crossover} on this point is above the baseline."
        if drawn.crossover
        else f"At k = {drawn.ks[-1]} this point is not above the baseline."
    )
    if drawn.split == "validation":
        found += " Not both epochs have a final evaluation, so both curves are of the validation set."
    return found
