from __future__ import annotations

import html
import json
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from point_stories import PAIRS, files_of, story_of

from dashboards.page import Page, Section, to_html, to_state, to_trials
from dashboards.point_files import PointFiles
from dashboards.sweep_story import SweepStory
from dashboards.trial_page import point_page
from trainables.reports import CORRELATION, SPECTRUM, TRUNCATION_CURVE, TSNE

FIGURES = [
    "clustermap", "clustermap-encoder", "correlation-epochs", "d-eff", "tsne", "recall", "spectrum",
    "truncation",
]  # fmt: skip
HOSTILE = '<img src=x onerror="alert(1)"><script>alert(2)</script>'


def section(page: Page, key: str) -> Section:
    return next(section for section in page.sections if section.key == key)


def drawn(page: Page) -> list[str]:
    return [section.key for section in page.sections if section.figure is not None]


def without(files: PointFiles, *names: str) -> PointFiles:
    return replace(files, tables={n: t for n, t in files.tables.items() if n not in names})


def test_figures_stand_in_the_papers_order() -> None:
    page = point_page(story_of(), "trial-0000", 10, files_of())
    assert [section.key for section in page.sections] == drawn(page) == FIGURES
    state = json.loads(to_state(page))
    assert list(state["figures"]) == FIGURES and to_trials(page) == "{}"


def test_summary_names_head_objectives_and_the_run_to_copy() -> None:
    page = point_page(story_of(), "trial-0000", 10, files_of())
    assert page.title == "s: trial-0000, epoch 10"
    for text in (
        "<b>monotonic</b>",
        "knn_accuracy, validation",
        "knn_accuracy, test",
        "<b>0.75</b>",
        "<code>trial-0000</code>",
        "<code>run-of-0</code>",
    ):
        assert text in page.summary


def test_conditions_are_told() -> None:
    page = point_page(story_of(), "trial-0000", 10, files_of())
    assert "the 1,234 validation images" in section(page, "clustermap").html
    assert "first 60 test embeddings, of 10 labels" in section(page, "tsne").html
    assert "3 of the trial's 4 traced epochs" in section(page, "correlation-epochs").html
    assert "the first 60 test images" in section(page, "truncation").html


def test_without_files_only_what_the_story_tells_is_drawn() -> None:
    page = point_page(story_of(), "trial-0000", 10, PointFiles())
    assert drawn(page) == ["d-eff", "recall"]
    for key, name in (("clustermap", CORRELATION), ("tsne", TSNE), ("spectrum", SPECTRUM)):
        assert f"there is no usable {name}" in section(page, key).html


def test_fault_of_a_file_is_told() -> None:
    files = replace(without(files_of(), TSNE), faults={TSNE: "OSError: <torn>"})
    page = point_page(story_of(), "trial-0000", 10, files)
    assert "tsne.parquet cannot be read: OSError: &lt;torn&gt;." in page.summary
    assert "tsne" not in drawn(page)


def test_older_evaluation_has_the_papers_sizes() -> None:
    page = point_page(story_of(), "trial-0000", 10, without(files_of(), TRUNCATION_CURVE))
    assert "only the paper's sizes are there" in section(page, "truncation").html
    assert "truncation" in drawn(page)


@pytest.mark.parametrize(("missing", "whole"), [((), 100), ((TRUNCATION_CURVE,), 75)])
def test_whole_embedding_is_that_of_the_same_test_images(missing: tuple[str, ...], whole: float) -> None:
    # The curve's images are some of the test set's, of which 75 % have the right neighbours.
    page = point_page(story_of(), "trial-0000", 10, without(files_of(), *missing))
    figure: Any = section(page, "truncation").figure
    assert figure.layout.shapes[0].y0 == whole


def test_point_without_a_final_evaluation_says_so() -> None:
    page = point_page(story_of(evaluated=()), "trial-0000", 5, files_of())
    assert "no final evaluation" in page.summary
    assert drawn(page) == FIGURES


@pytest.mark.parametrize(
    ("evaluated", "split"),
    [
        (((0, 10), (1, 10)), "test"),
        (((0, 10),), "validation"),
        (((1, 10),), "validation"),
        ((), "validation"),
    ],
)
def test_like_is_compared_with_like(evaluated: tuple[tuple[int, int], ...], split: str) -> None:
    page = point_page(story_of(evaluated=evaluated), "trial-0000", 10, files_of())
    recall: Any = section(page, "recall")
    assert f"Share of the {split} images" in recall.html
    assert ("Not both epochs have a final evaluation" in recall.html) == (split == "validation")
    assert recall.figure is not None
    assert [trace.name for trace in recall.figure.data] == [
        "trial-0000, epoch 10", "baseline, trial-0001, epoch 10"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("story", "trial", "sentence"),
    [
        (story_of(), "trial-0001", "This point is the baseline."),
        (story_of(kinds=("mlp",) * 3), "trial-0001", "no baseline to compare with"),
    ],
)
def test_lonely_recall_says_why(story: SweepStory, trial: str, sentence: str) -> None:
    recall: Any = section(point_page(story, trial, 10, files_of()), "recall")
    assert sentence in recall.html
    assert recall.figure is not None and len(recall.figure.data) == 1


def test_sentences_have_no_labels() -> None:
    curve = pd.DataFrame(
        {"components": [1, 2], "num_pairs": 1379, "spearman_cosine": [0.1, 0.5], "spearman_dot": 0.3}
    )
    tables = {**without(files_of(), TSNE).tables, TRUNCATION_CURVE: curve}
    page = point_page(story_of(PAIRS), "trial-0000", 10, replace(files_of(), tables=tables))
    assert "tsne" not in drawn(page) and "recall" not in drawn(page)
    assert "no labels" in section(page, "labels").html
    assert "Of all 1,379 test pairs" in section(page, "truncation").html
    assert "validation sentences" in section(page, "clustermap").html


def test_names_and_values_from_outside_are_text() -> None:
    story = story_of(names=(HOSTILE, "b", "c"), parameters={HOSTILE: HOSTILE})
    files = replace(files_of(), faults={HOSTILE: HOSTILE})
    page = point_page(story, HOSTILE, 10, files)
    shown = "".join([page.summary, *(section.html for section in page.sections)])
    assert "<img" not in shown and "<script" not in shown
    assert html.escape(HOSTILE) in page.summary
    recall = section(page, "recall").figure
    assert recall is not None and "<img" not in str(recall.to_plotly_json())
    assert to_html(page, "served").count("<script>alert") == 0


def test_wide_page_stays_small() -> None:
    files = files_of(dim=512, num_items=5000, num_labels=100)
    page = point_page(story_of(), "trial-0000", 10, files)
    assert "Drawn is one feature in 4" in section(page, "correlation-epochs").html
    size_mib = len(to_html(page)) / 2**20
    assert size_mib < 7  # it is 6.3
