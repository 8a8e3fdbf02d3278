from __future__ import annotations

import pytest
from front_tables import HOSTILE, Tags
from markdown_it import MarkdownIt
from stories import (
    START,
    digits_settings,
    imported,
    metrics,
    opening,
    parameters,
    report,
    small_story,
    trial,
)

from dashboards.description import MAX_LENGTH, front_description
from dashboards.sweep_story import SweepStory
from orchestrator.events import Event, RunOpened, TrialProposed, TrialReported

NASTY = f"{HOSTILE}| *a* _b_ `c` [d](http://evil.example) ![e](x) ~~f~~ www.evil.example\n# g\\"


def rendered(text: str) -> Tags:
    return Tags(MarkdownIt("commonmark", {"html": True}).enable("table").render(text))


def rows(text: str) -> list[list[str]]:
    cells = rendered(text).cells
    return [cells[start : start + 5] for start in range(0, len(cells), 5)]


def long_front(num_points: int, name: str = "trial-0000") -> SweepStory:
    """All points of one trial, and on the front."""
    settings = digits_settings()
    points = [metrics(n / num_points, float(n)) for n in range(1, num_points + 1)]
    events: list[Event] = [*trial(settings, 0, parameters("mlp"), points)]
    return SweepStory([*opening(settings), *events, RunOpened("trial-0000", name, START)])


def nasty_story() -> SweepStory:
    config = digits_settings().trial.model_dump(mode="json")
    found = report(0, 5, metrics(0.5, 9.0)).report
    return SweepStory(
        [
            *opening(digits_settings()),
            TrialProposed(NASTY, 0, {}, config, START),
            RunOpened(NASTY, "../../a?b#c)", START),
            TrialReported(NASTY, found, START),
        ]
    )


def test_it_says_how_the_sweep_stands() -> None:
    text = front_description(small_story(), "7")
    assert text.startswith("**completed**: 3 of 32 trials ended, 8 points on the front.")
    assert "`report.html`" in text


def test_its_table_is_the_front_best_first() -> None:
    assert rows(front_description(small_story("pick=null"), "7"))[:4] == [
        ["0.97", "45", "none", "trial-0000", "15"],
        ["0.95", "44", "none", "trial-0000", "10"],
        ["0.94", "30", "mlp", "trial-0001", "20"],
        ["0.93", "24", "mlp", "trial-0001", "15"],
    ]


def test_the_picked_point_is_told() -> None:
    story = small_story("pick=best knn_accuracy")
    told = [row[3] for row in rows(front_description(story, "7")) if "picked" in row[3]]
    assert told == ["trial-0000 (picked)"]


def test_links_lead_to_the_trials_runs() -> None:
    tags = rendered(front_description(small_story(), "7")).tags
    links = [attributes["href"] for tag, attributes in tags if tag == "a"]
    addresses = [f"#/experiments/7/runs/run-{n}?workflowType=machine_learning" for n in range(3)]
    assert links[0] == addresses[0] and set(links) == set(addresses) and len(links) == 8


def test_an_imported_point_says_where_it_is_from_and_has_no_run() -> None:
    story = small_story("pick=null", events=[imported(3, parameters("mlp"), (0.99, 1.0))])
    text = front_description(story, "7")
    assert rows(text) == [["0.99", "1", "mlp", "earlier/trial-0003", "5"]]
    assert "a" not in rendered(text).names


def test_hostile_names_stay_text() -> None:
    text = front_description(nasty_story(), "7")
    tags = rendered(text)
    assert {"script", "img", "em", "strong", "s", "h1"} & set(tags.names) == {"strong"}
    assert tags.names.count("strong") == 1 and tags.names.count("code") == 1
    assert rows(text) == [["0.5", "9", "monotonic", " ".join(NASTY.split()), "5"]]
    assert "http:" not in text and "www." not in text  # what some renderers make links of


def test_a_hostile_run_id_stays_in_its_link() -> None:
    tags = rendered(front_description(nasty_story(), "7/x")).tags
    (link,) = (attributes["href"] for tag, attributes in tags if tag == "a")
    assert link == "#/experiments/7%2Fx/runs/..%2F..%2Fa%3Fb%23c%29?workflowType=machine_learning"


@pytest.mark.parametrize("num_points", [30, *range(33, 40), 500])
def test_it_is_never_longer_than_mlflow_takes(num_points: int) -> None:
    story = long_front(num_points)
    text = front_description(story, "123456789012345678")
    assert len(text) <= MAX_LENGTH
    shown = len(rows(text))
    left = num_points - shown
    assert text.endswith(f"\nand {left} more.\n") == (left > 0)
    assert shown >= 30 and (not left or len(text) > MAX_LENGTH - 200)


def test_a_name_that_alone_is_too_long_leaves_the_count() -> None:
    text = front_description(long_front(3, "x" * 6000), "7")
    assert text.endswith("and 3 more.\n") and len(text) < MAX_LENGTH


def test_without_points_there_is_no_table() -> None:
    text = front_description(SweepStory(opening(digits_settings())), "7")
    assert "0 points on the front" in text and "|" not in text
