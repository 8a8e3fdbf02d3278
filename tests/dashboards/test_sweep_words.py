from __future__ import annotations

from typing import Any

import pytest
from front_tables import CONFIRMED, HOSTILE, SPEARMAN, THREE, Tags, pairs, row, table
from stories import START, digits_settings, metrics, opening, parameters, small_story, trial

from dashboards.figures import front, head_kinds, occupation
from dashboards.sweep_page import front_info, story_table
from dashboards.sweep_story import SweepStory
from dashboards.sweep_words import (
    endings,
    failures,
    front_table_html,
    heads_table,
    point_button,
    resources,
    settings_html,
    summary,
)
from orchestrator.events import PointEvaluated, TrialProposed, TrialRetried, TrialWarned


def rows(html_text: str, num_columns: int) -> list[list[str]]:
    cells = Tags(html_text).cells
    return [cells[start : start + num_columns] for start in range(0, len(cells), num_columns)]


def front_rows(of: Any, num_columns: int) -> list[list[str]]:
    return rows(front_table_html(front.info(of)), num_columns)


def summary_of(story: SweepStory) -> str:
    return summary(story, front_info(story, story_table(story)))


def failed(*reasons: str, details: str = "") -> SweepStory:
    """Trials that failed for these reasons."""
    settings = digits_settings()
    events = opening(settings)
    for number, reason in enumerate(reasons):
        events += trial(
            settings, number, parameters("mlp"), [], ended=("failed", reason), details=details
        )
    return SweepStory(events)


def test_the_table_is_the_front_in_order_along_d_eff() -> None:
    with_runs = THREE.with_run_ids({f"trial-000{number}": f"id-{number}" for number in range(4)})
    assert front_rows(with_runs, 6) == [
        ["trial-0001", "0.6", "3", "mlp", "5", "id-1"],
        ["trial-0000", "0.9", "10", "mlp", "5", "id-0"],
        ["trial-0002", "0.95", "40", "none", "5", "id-2"],
    ]


def test_the_table_has_what_is_confirmed() -> None:
    assert front_rows(CONFIRMED, 9) == [
        ["trial-0002", "0.5", "2", "mlp", "5", "", "", "", ""],
        ["trial-0001", "0.6", "3", "mlp", "5", "1", "0.5", "4 ± 1.5", "75%"],
        ["trial-0000", "0.95", "10", "mlp", "5", "2", "0.9 ± 0.02", "11 ± 1.5", "75%"],
    ]
    assert "further seeds" not in front_table_html(front.info(THREE))


def test_the_table_has_all_objectives_and_their_test_values() -> None:
    objectives: Any = {"knn_accuracy": "max", "d_eff": "min", "train_loss": "min"}
    values = {"train_loss": 1.25, "test_knn_accuracy": 0.87, "test_train_loss": 1.5}
    of = table(row("t", 0.9, 3.0, True, **values), objectives=objectives)
    assert front_rows(of, 8) == [["t", "0.9", "3", "1.25", "mlp", "5", "0.87", "1.5"]]


def test_pairs_have_no_accuracy() -> None:
    of = table(pairs("t", 0.84, 90.0, True), objectives=SPEARMAN)
    assert front_rows(of, 5) == [["t", "0.84", "90", "mlp", "5"]]
    assert "accuracy" not in front_table_html(front.info(of))


def test_one_objective_is_beside_its_epoch() -> None:
    of = table(row("t", 0.9, 3.0, True, epoch=7), objectives={"knn_accuracy": "max"})
    assert front_rows(of, 4) == [["t", "0.9", "mlp", "7"]]


def test_sources_have_a_column_where_there_are_any() -> None:
    own = row("trial-0000", 0.9, 3.0, True, source="")
    other = row("import-0000", 0.8, 2.0, True, source="<earlier>/trial-0007")
    assert "<earlier>/trial-0007" in Tags(front_table_html(front.info(table(own, other)))).cells
    assert "<th>from</th>" not in front_table_html(front.info(table(own)))


def test_each_row_and_its_button_show_the_point() -> None:
    picked = table(row("t", 0.9, 3.0, True, is_picked=True), row("u", 0.8, 2.0, True))
    text = front_table_html(front.info(picked))
    shown = [(tag, a["data-trial"], a["data-epoch"]) for tag, a in Tags(text).tags if "data-trial" in a]
    assert shown == [(tag, name, "5") for name in ("u", "t") for tag in ("tr", "button")]
    assert [cell for cell in Tags(text).cells if "★" in cell] == ["t ★"]


def test_hostile_names_stay_text_in_the_table() -> None:
    hostile = row(HOSTILE, 0.9, 3.0, True, **{"param.head.kind": HOSTILE, HOSTILE: 0.5})
    objectives: Any = {HOSTILE: "max", "d_eff": "min"}
    text = front_table_html(
        front.info(table({**hostile, "run_id": HOSTILE, "source": HOSTILE}, objectives=objectives))
    )
    assert Tags(text).cells == [HOSTILE, "0.5", "3", HOSTILE, "5", HOSTILE, HOSTILE]
    assert not {"script", "img"} & set(Tags(text).names)


def test_a_button_for_a_trial_has_no_epoch() -> None:
    ((_, attributes),) = Tags(point_button(HOSTILE)).tags
    assert attributes["data-trial"] == HOSTILE and "data-epoch" not in attributes


def test_a_summary_has_the_sweeps_numbers() -> None:
    text = summary_of(small_story())
    for number, what in [
        ("8", "points on the front"),
        ("117.9", "hypervolume"),
        ("12", "validated epochs"),
        ("3 of 32", "trials ended"),
        ("60", "epochs of the search"),
        ("3 min 20 s", "working time"),
    ]:
        assert f"<b>{number}</b><span>{what}</span>" in text
    assert "Trials: 3 completed." in text and "all 3 trials ended" in text


def test_a_summary_before_anything_says_so() -> None:
    text = summary_of(SweepStory(opening(digits_settings())))
    assert "running" in text and "Trials: none yet." in text and "<b>0</b>" in text


def test_without_a_reference_point_there_is_no_hypervolume_to_tell() -> None:
    story = small_story("reference_point={d_eff: 2 * baseline}", ended=False)
    assert "hypervolume" in summary_of(story)
    unknown = SweepStory(opening(digits_settings("reference_point={d_eff: 2 * baseline}")))
    assert "hypervolume" not in summary_of(unknown)


def test_failures_are_told_by_reason_the_most_frequent_first() -> None:
    text = failures(failed("out of memory", "diverged", "diverged", details="Traceback <x>"))
    assert text.index("2 trials: diverged") < text.index("1 trial: out of memory")
    assert "<pre>Traceback &lt;x&gt;</pre>" in text
    assert [a["data-trial"] for tag, a in Tags(text).tags if tag == "button"] == [
        "trial-0001",
        "trial-0002",
        "trial-0000",
    ]


def test_of_many_failures_some_are_named() -> None:
    text = failures(failed(*["diverged"] * 11))
    assert Tags(text).names.count("button") == 8 and text.count(" and 3 more") == 1


def test_evaluations_that_failed_and_warnings_are_told() -> None:
    events = [
        PointEvaluated("trial-0001", 5, {}, START, "no <space>"),
        TrialWarned("trial-0000", "no positives", START),
        TrialWarned("trial-0002", "no positives", START),
    ]
    text = failures(small_story(events=events))
    assert "final evaluation of trial-0001, epoch 5: no &lt;space&gt;" in text
    assert text.count("warning: no positives") == 1 and Tags(text).names.count("button") == 2


def test_attempts_that_were_followed_by_another_are_told_by_reason() -> None:
    events = [TrialRetried("trial-0000", "its node <died>", START) for _ in range(2)]
    text = failures(small_story(events=events))
    assert "2 attempts that another one followed: its node &lt;died&gt;" in text
    assert Tags(text).names.count("button") == 2


def test_without_failures_there_is_nothing() -> None:
    assert failures(small_story()) == ""


def test_hostile_reasons_stay_text() -> None:
    text = failures(failed(HOSTILE, details=HOSTILE))
    assert not {"script", "img"} & set(Tags(text).names)


def test_endings_are_counted_with_their_epochs() -> None:
    settings = digits_settings()
    events = opening(settings)
    for number, num_points in enumerate((4, 2, 1)):
        points = [metrics(0.5, 9.0)] * num_points
        status = "completed" if number == 0 else "stopped"
        events += trial(settings, number, parameters("mlp"), points, ended=(status, ""))
    assert rows(endings(SweepStory(events)), 4) == [
        ["stopped", "2", "7.5", "15"],
        ["completed", "1", "20.0", "20"],
    ]
    assert endings(SweepStory(opening(settings))) == ""


def test_resources_are_by_head_kind() -> None:
    """Each report is of one epoch's training, 1 s, and of a validation, 0.5 s; it is of 5 epochs."""
    story = small_story()
    text = resources(story, occupation.info(story))
    assert rows(text, 5)[:3] == [
        [kind, "1", "20", "6 s", "0.3"] for kind in ("mlp", "monotonic", "none")
    ]
    assert "Up to 1 trial at the same time; their slots were in use 88% of the time" in text


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ([], "Each trial: 1 worker of 1 CPU core and 0 GPUs."),
        (
            ["resources.workers=2", "resources.cpus=4", "resources.gpus=1"],
            "Each trial: 2 workers of 4 CPU cores and 1 GPU.",
        ),
    ],
)
def test_what_a_trial_runs_on_is_told(overrides: list[str], told: str) -> None:
    assert told in resources(SweepStory(opening(digits_settings(*overrides))), None)


def test_heads_are_compared_in_a_table() -> None:
    story = small_story()
    drawn = head_kinds.info(story_table(story), story.record)
    assert drawn is not None
    found = rows(heads_table(drawn), 6)
    assert found[1][:5] == ["monotonic", "1", "4", "0.91", "9"]
    assert found[2] == ["none", "1", "2", "0.97", "45", "85.06"]


def test_settings_stay_text() -> None:
    assert settings_html(HOSTILE).count("<") == 6 and "&lt;script&gt;" in settings_html(HOSTILE)


def test_a_running_sweep_says_when_it_was_heard_of_last() -> None:
    text = summary_of(small_story(ended=False))
    assert "running</span>; last news 2023-11-14 22:" in text and "UTC" in text
    assert "last news" not in summary_of(small_story())


def test_the_confirmation_of_the_front_is_told() -> None:
    story = small_story("confirm={of: front, seeds: 2}", ended=False)
    assert "further seeds" not in summary_of(story)
    of = next(iter(story.record.front)).trial
    config = story.record.trials[of].config
    story.apply(TrialProposed(f"{of}-seed-43", 0, {}, {**config, "seed": 43}, START, confirms=of))
    wanted = 2 * len({point.trial for point in story.record.front})
    assert f"The front under further seeds: 0 of {wanted} trials ended." in summary_of(story)


def test_points_stand_beside_the_baseline() -> None:
    story = small_story()
    table = front_table_html(front_info(story, story_table(story)))
    assert story.record.baseline is not None
    accuracy, d_eff = (story.record.baseline.metrics[name] for name in ("knn_accuracy", "d_eff"))
    smallest = min(story.record.front, key=lambda point: point.metrics["d_eff"])
    told = [row[3] for row in rows(table, 7)]
    assert told[0] == f"{smallest.metrics['knn_accuracy'] / accuracy:.1%}, {d_eff / 2:.3g}x smaller"
    assert told[-1] == "100.0%, the same d_eff"
