"""The page of one point, a trial at an epoch that had a final evaluation: the paper's figures of it.

Called by whoever writes or serves pages, with a sweep's story and the point's files.
"""

from __future__ import annotations

import html

import pandas as pd

from dashboards.figures import (
    correlation_epochs,
    correlation_map,
    d_eff_epochs,
    recall_curve,
    spectrum,
    truncation_curve,
    tsne,
)
from dashboards.figures.stages import STAGE_NAMES
from dashboards.page import Page, Section
from dashboards.point_files import PointFiles
from dashboards.point_words import (
    ShownPoint,
    compared,
    conditions_of_correlation,
    summary,
    table_of_blocks,
)
from dashboards.sweep_story import SweepStory
from orchestrator.record import SweepRecord
from orchestrator.trials import Point
from trainables.reports import CORRELATION, SPECTRUM, TRUNCATION, TRUNCATION_CURVE, TSNE


def point_page(story: SweepStory, trial: str, epoch: int, files: PointFiles) -> Page:
    """The page of an epoch of a trial.

    Args:
        story: of the sweep; it has reported this epoch.
        trial: its name.
        epoch: of its main phase.
        files: of the point's final evaluation; figures of missing ones are left out and say so.
    """
    record = story.record
    of = record.trial(trial)
    point = next(point for point in of.points if point.epoch == epoch)
    test = record.evaluations.get((trial, epoch), {})
    shown = ShownPoint(story, of, point, test, "knn_accuracy" in point.metrics, files)
    judged = [_tsne(shown), _recall(shown)] if shown.of_images else [_without_labels()]
    return Page(
        title=f"{story.name}: {trial}, epoch {epoch}",
        summary=summary(shown),
        sections=[
            *_clustermaps(shown),
            _correlation_epochs(shown),
            _d_eff_epochs(shown),
            *judged,
            _spectrum(shown),
            _truncation(shown),
        ],
    )


def _clustermaps(shown: ShownPoint) -> list[Section]:
    """Of the embedding, and of the encoder's output beside it."""
    title = "Which features go together (Figs. 2 and 7)"
    matrices = shown.files.correlations
    if "embedding" not in matrices:
        return [_absent("clustermap", title, CORRELATION)]
    drawn = {name: correlation_map.info(matrices[name]) for name in STAGE_NAMES if name in matrices}
    sections = [
        Section(
            "clustermap",
            title,
            html=f"<p>{conditions_of_correlation(shown)} Features in one square vary together; a model "
            "that gives each group of features its own concept shows few clear squares, an "
            "entangled one weak colours without order.</p>"
            + table_of_blocks({name: info.blocks for name, info in drawn.items()}),
            figure=correlation_map.plot(drawn["embedding"]),
            caption=f"The embedding's features on the validation {shown.items}. Clustered by average "
            "linkage of 1 - |r|; outlined are the blocks of the cut with the largest modularity.",
            height=600,
        )
    ]
    if "encoder" in drawn:
        sections.append(
            Section(
                "clustermap-encoder",
                "The same of the encoder's output",
                figure=correlation_map.plot(drawn["encoder"]),
                caption="What the head gets, clustered by itself: its order of features is another one.",
                height=600,
            )
        )
    return sections


def _correlation_epochs(shown: ShownPoint) -> Section:
    title = "How that came about in training (Fig. 3)"
    if not shown.files.traces:
        return _absent("correlation-epochs", title, "traces of this trial")
    drawn = correlation_epochs.info(shown.files.traces)
    thinned = f" Drawn is one feature in {drawn.every} of that order." if drawn.every > 1 else ""
    return Section(
        "correlation-epochs",
        title,
        html=f"<p>The same correlations at {len(drawn.epochs)} of the trial's {len(shown.files.traces)} "
        f"traced epochs, on the last fifth of the validation {shown.items}; the paper's are on 1,000 "
        f"training images. Each map is clustered by itself, as the paper's are.{thinned} RMS is the "
        "correlation between different features, Q the modularity; both are of all features.</p>",
        figure=correlation_epochs.plot(drawn),
        caption="Rows: the encoder's output, the head's output before L2, the embedding.",
        height=90 + 200 * len(drawn.stages),
    )


def _d_eff_epochs(shown: ShownPoint) -> Section:
    drawn = d_eff_epochs.info(shown.trial.points, shown.point.epoch)
    return Section(
        "d-eff",
        "Effective dimensions over the training (Fig. 4)",
        html="<p>Principal components that hold 99 % of the variance of the training embeddings, at "
        "each validated epoch. Where the embedding's curve lies far below the encoder's, it is the head "
        "that compresses.</p>",
        figure=d_eff_epochs.plot(drawn),
        caption="The dotted line is this point's epoch. Without a head the stages differ in L2 alone.",
    )


def _tsne(shown: ShownPoint) -> Section:
    title = "The test set on a plane (Fig. 5)"
    if TSNE not in shown.files.tables:
        return _absent("tsne", title, TSNE)
    drawn = tsne.info(shown.files.tables[TSNE])
    looks = (
        "The label stands in the midst of its items."
        if len(drawn.names)
        else "Colour and symbol repeat: 30 looks for more labels. Hover an item for its label."
    )
    return Section(
        "tsne",
        title,
        html=f"<p>t-SNE (perplexity 30) of the first {len(drawn.x):,} test embeddings, of "
        f"{drawn.num_labels} labels, on the components with 99.9 % of the variance. For "
        f"{100 * drawn.neighbour_share:.4g} % of them the nearest one on the plane has "
        f"the same label. {looks}</p>",
        figure=tsne.plot(drawn),
        caption="Distances between far groups mean nothing on such a plane.",
        height=540,
    )


def _recall(shown: ShownPoint) -> Section:
    key, title = "recall", "Recall@k beside the baseline's (Fig. 6)"
    record = shown.story.record
    baseline = record.baseline
    is_baseline = baseline is not None and (baseline.trial, baseline.epoch) == _key(shown.point)
    other = None if baseline is None or is_baseline else _curve_of(record, baseline, "baseline, ")
    drawn = recall_curve.info(_curve_of(record, shown.point), other)
    if drawn is None:
        return _absent(key, title, "Recall@k of this point")
    return Section(
        key,
        title,
        html=f"<p>Share of the {drawn.split} images that have one of their own label among their k "
        f"nearest. {compared(drawn, baseline, is_baseline)}</p>",
        figure=recall_curve.plot(drawn),
        caption="In the paper the baseline is ahead for k of 1 and 2, and MonoCon for k above 3.",
    )


def _curve_of(record: SweepRecord, point: Point, prefix: str = "") -> recall_curve.RecallCurve:
    return recall_curve.RecallCurve(
        name=f"{prefix}{point.trial}, epoch {point.epoch}",
        kind=str(record.trial(point.trial).config["head"]["kind"]),
        test=record.evaluations.get(_key(point), {}),
        validation=point.metrics,
    )


def _key(point: Point) -> tuple[str, int]:
    return point.trial, point.epoch


def _without_labels() -> Section:
    return Section(
        "labels",
        "Not of sentences (Figs. 5 and 6)",
        html="<p>Pairs of sentences have scores and no labels: there is neither a t-SNE map by label "
        "nor a Recall@k.</p>",
    )


def _spectrum(shown: ShownPoint) -> Section:
    title = "Principal components and their variance"
    if SPECTRUM not in shown.files.tables:
        return _absent("spectrum", title, SPECTRUM)
    drawn = spectrum.info(shown.files.tables[SPECTRUM])
    gallery = (
        "all training images, validation included"
        if shown.of_images
        else "the unique training sentences"
    )
    return Section(
        "spectrum",
        title,
        html=f"<p>Of {gallery}. A circle marks d_eff, where the first components together hold 99 % of "
        "the variance; the earlier a curve reaches the dotted line, the more compact is the stage.</p>",
        figure=spectrum.plot(drawn),
        caption="Below: a component's own share of its stage's variance; less than 1e-9 is rounding.",
        height=520,
    )


def _truncation(shown: ShownPoint) -> Section:
    key, title = "truncation", "What is left on the first k components (Table 3)"
    files = shown.files.tables
    curve = files.get(TRUNCATION_CURVE)
    values = files.get(TRUNCATION) if curve is None else curve
    if values is None:
        return _absent(key, title, TRUNCATION_CURVE)
    d_eff = int(shown.test["test_d_eff"]) if "test_d_eff" in shown.test else None
    drawn = truncation_curve.info(values, _whole_value(shown, curve), d_eff)
    asked = ""
    if curve is None:
        asked = "This evaluation is from before every k was tried: only the paper's sizes are there. "
    elif "num_queries" in curve:
        asked = f"Asked are the first {int(curve['num_queries'].iloc[0]):,} test images. "
    elif "num_pairs" in curve:
        asked = f"Of all {int(curve['num_pairs'].iloc[0]):,} test pairs. "
    return Section(
        key,
        title,
        html=f"<p>Embeddings projected on the first k principal components of the training embeddings. "
        f"{asked}Euclid ranks by distance, cosine by the angle seen from the mean, dot by "
        "the inner product of the centred coordinates, as the paper's published code does. The "
        "horizontal line is the whole embedding's value, the dotted one its d_eff.</p>",
        figure=truncation_curve.plot(drawn),
        caption="Where a curve meets the horizontal line, the components beyond hold nothing that the "
        "measure sees.",
        height=420,
    )


def _whole_value(shown: ShownPoint, curve: pd.DataFrame | None) -> float | None:
    """Of the whole embedding; on the same test images as the curve's, which may be some of them."""
    if curve is None or "knn_accuracy" not in curve:
        return shown.test.get("test_knn_accuracy" if shown.of_images else "test_spearman")
    return float(curve.sort_values("components")["knn_accuracy"].iloc[-1])


def _absent(key: str, title: str, what: str) -> Section:
    """In place of a figure whose data is missing."""
    return Section(key, title, html=f"<p>Not drawn: there is no usable {html.escape(what)}.</p>")
