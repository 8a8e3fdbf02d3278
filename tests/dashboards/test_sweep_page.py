from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from front_tables import HOSTILE, Tags
from stories import (
    START,
    digits_settings,
    imported,
    large_events,
    metrics,
    opening,
    pairs_story,
    parameters,
    proposal,
    report,
    small_story,
    trial,
)

from dashboards.page import Page, to_html, to_state, to_trials
from dashboards.sweep_page import FRONT_CSV, PICTURE, render, story_table, sweep_page
from dashboards.sweep_story import SweepStory
from orchestrator.events import (
    RunOpened,
    SweepEnded,
    TrialEnded,
    TrialProposed,
    TrialReported,
    TrialWarned,
)
from orchestrator.pages import SWEEP_PAGE

ROOT = Path(__file__).parents[2]


def failed_story() -> SweepStory:
    """Each trial failed before its first epoch."""
    settings = digits_settings()
    ends = [
        event for number in range(3)
        for event in trial(settings, number, parameters("mlp"), [], ended=("failed", "out of memory"))
    ]  # fmt: skip
    return SweepStory([*opening(settings), *ends, SweepEnded("failed", "all failed", START + 300)])


def hostile_story() -> SweepStory:
    """A trial whose names and texts are markup, twice, so that it has a way."""
    config = digits_settings().trial.model_dump(mode="json")
    config["augmentation"] = HOSTILE
    drawn = {**parameters("mlp"), "head.kind": HOSTILE}
    return SweepStory(
        [
            *opening(digits_settings(), HOSTILE),
            TrialProposed(HOSTILE, 0, drawn, config, START),
            RunOpened(HOSTILE, HOSTILE, START),
            *(TrialReported(HOSTILE, report(0, n, metrics(0.5, 9.0 + n)).report, START) for n in (1, 2)),
            TrialWarned(HOSTILE, HOSTILE, START),
            TrialEnded(HOSTILE, "failed", HOSTILE, START, HOSTILE),
            SweepEnded("interrupted", HOSTILE, START + 1),
        ]
    )


STORIES = {
    "small": small_story,
    "constrained": lambda: small_story(
        'constraints=["knn_accuracy >= 0.9 * baseline", "d_eff <= 30"]', "pick=knee"
    ),
    "running": lambda: small_story(ended=False),
    "pairs": pairs_story,
    "three objectives": lambda: small_story(
        "objectives.train_loss=min", "reference_point={train_loss: 3.0}"
    ),
    "one objective": lambda: small_story("objectives={knn_accuracy: max}"),
    "d_eff along y": lambda: small_story("objectives={d_eff: min, knn_accuracy: max}"),
    "imported alone": lambda: SweepStory(
        [*opening(digits_settings()), imported(0, parameters("mlp"), (0.5, 9.0), (0.6, 10.0))]
    ),
    "only failures": failed_story,
    "nothing yet": lambda: SweepStory(opening(digits_settings())),
    "no epoch yet": lambda: SweepStory(
        [*opening(digits_settings()), *proposal(digits_settings(), 0, parameters("mlp"))]
    ),
    "hostile": hostile_story,
}


def sections(page: Page) -> list[str]:
    return [section.key for section in page.sections]


def html_of(page: Page) -> str:
    """All that the page sets as HTML."""
    return page.summary + "".join(section.html for section in page.sections)


@pytest.mark.parametrize("of", STORIES)
def test_any_sweep_has_its_files(of: str) -> None:
    files = render(STORIES[of](), {"runs": "/#/runs/"})
    assert set(files) == {"report.html", "pareto_front.png", "pareto_front.csv"}
    assert files[PICTURE].startswith(b"\x89PNG\r\n\x1a\n")
    assert files[SWEEP_PAGE].startswith(b"<!doctype html>")


@pytest.mark.parametrize("of", STORIES)
def test_no_state_has_a_number_that_json_lacks(of: str) -> None:
    page = sweep_page(STORIES[of](), {})

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    for text in (to_state(page), to_trials(page)):
        json.loads(text, parse_constant=refuse)
    assert len({section.key for section in page.sections}) == len(page.sections)


def test_a_sweep_shows_what_there_is_in_order() -> None:
    assert sections(sweep_page(small_story(), {})) == [
        "front",
        "points",
        "hypervolume",
        "trajectories",
        "heads",
        "parallel",
        "importance",
        "stopping",
        "resources",
        "settings",
    ]


def test_with_more_trials_importance_and_failures_come_in() -> None:
    page = sweep_page(SweepStory(large_events(100, 3)), {})
    assert {"importance", "failures"} <= set(sections(page))


@pytest.mark.parametrize("of", ["nothing yet", "no epoch yet", "only failures"])
def test_before_the_first_epoch_a_word_is_in_the_figures_place(of: str) -> None:
    page = sweep_page(STORIES[of](), {})
    assert page.sections[0].figure is None
    assert page.sections[0].html == "<p>No trial has a validated epoch.</p>"
    assert not {"points", "hypervolume", "trajectories", "heads", "parallel"} & set(sections(page))


def test_links_trials_and_the_path_of_the_state_are_the_pages() -> None:
    page = sweep_page(small_story(), {"runs": "/r/"}, "/state/1")
    assert (page.links, page.state_path, page.title) == ({"runs": "/r/"}, "/state/1", "digits")
    assert set(page.trials["items"]) == {"trial-0000", "trial-0001", "trial-0002"}


def test_the_file_is_the_page() -> None:
    story = small_story()
    assert render(story, {})[SWEEP_PAGE] == to_html(sweep_page(story, {})).encode()


def test_the_csv_is_the_front_and_its_runs() -> None:
    story = small_story()
    content = render(story, {})[FRONT_CSV]
    read = pd.read_csv(io.BytesIO(content), keep_default_na=False)
    front = story_table(story).front
    assert read["trial"].tolist() == front["trial"].tolist() and "on_front" not in read
    np.testing.assert_array_equal(read["knn_accuracy"], front["knn_accuracy"])
    assert read["run_id"].tolist() == [f"run-{trial[-1]}" for trial in read["trial"]]
    assert len(read) == len(story.record.front)


def test_the_csv_of_a_sweep_without_points_has_its_columns() -> None:
    (names,) = csv.reader(io.StringIO(render(STORIES["nothing yet"](), {})[FRONT_CSV].decode()))
    assert names[:4] == ["trial", "epoch", "source", "is_picked"]
    assert names[-3:] == ["knn_accuracy", "d_eff", "run_id"]


def test_hostile_names_stay_text() -> None:
    page = sweep_page(hostile_story(), {})
    tags = Tags(html_of(page))
    assert not {"script", "img", "a"} & set(tags.names)
    assert [attributes for _, attributes in tags.tags if "onerror" in attributes] == []
    assert HOSTILE in tags.cells
    names = {a["data-trial"] for tag, a in tags.tags if tag == "button"}
    assert names == {HOSTILE}
    assert "<script>hostile" not in to_html(page, "served")


def test_every_text_that_plotly_draws_is_escaped() -> None:
    """Plotly makes markup of texts, so only its own tags may be in them."""
    figures = json.loads(to_state(sweep_page(hostile_story(), {})))["figures"]
    custom = ("customdata",)

    def texts(value: object, key: str = "") -> list[str]:
        if isinstance(value, dict):
            return [t for k, v in value.items() if k not in custom for t in texts(v, k)]
        if isinstance(value, list):
            return [t for item in value for t in texts(item)]
        return [value] if isinstance(value, str) else []

    found = [text for figure in figures.values() for text in texts(figure)]
    assert {name for text in found for name in Tags(text).names} <= {"b", "br", "sub", "extra"}
    assert any("&lt;/script&gt;" in text for text in found)


def test_a_large_sweep_says_how_many_points_are_drawn() -> None:
    story = SweepStory(large_events(60, 40))
    page = sweep_page(story, {})
    num_points = sum(len(trial.points) for trial in story.record.trials.values())
    assert f"of {num_points:,} points: the whole front" in page.sections[0].caption


@pytest.mark.slow
def test_pages_load_optuna_for_importances_alone_and_nothing_heavier() -> None:
    code = (
        "import sys; from stories import *; from dashboards.sweep_page import render; "
        "import dashboards.live_pages; render(small_story(), {}); "
        "print([n for n in ('ray', 'torch', 'mlflow', 'optuna') if n in sys.modules]); "
        "render(SweepStory(large_events(30, 2)), {}); "
        "print([n for n in ('ray', 'torch', 'mlflow', 'optuna') if n in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path += ['tests', '.']; {code}"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert result.stdout.splitlines() == ["[]", "['optuna']"]
