from __future__ import annotations

import json
import math

import pytest
from front_tables import HOSTILE
from stories import (
    SMALL,
    START,
    digits_settings,
    imported,
    metrics,
    opening,
    pairs_story,
    parameters,
    proposal,
    report,
    small_story,
    trial,
)

from dashboards import trial_panel as module
from dashboards.sweep_story import SweepStory
from dashboards.trial_panel import trial_panel
from orchestrator.events import (
    PointEvaluated,
    RunOpened,
    TrialEnded,
    TrialProposed,
    TrialReported,
    TrialRetried,
    TrialWarned,
)
from orchestrator.search_space import to_trial_config


def test_a_trial_has_its_curves_and_what_it_was() -> None:
    item = trial_panel(small_story())["items"]["trial-0001"]
    assert (item["status"], item["run"], item["epochs"]) == ("completed", "run-1", [5, 10, 15, 20])
    assert item["curves"]["knn_accuracy"] == [accuracy for accuracy, _ in SMALL["mlp"]]
    assert item["curves"]["d_eff"] == [d_eff for _, d_eff in SMALL["mlp"]]
    assert item["parameters"] == parameters("mlp")


def test_epochs_on_the_front_and_those_evaluated_are_in_order() -> None:
    evaluated = [PointEvaluated("trial-0002", epoch, {"test_d_eff": 1.0}, START) for epoch in (20, 5)]
    failed = PointEvaluated("trial-0002", 10, {}, START)
    story = small_story(events=[*evaluated, failed])
    item = trial_panel(story)["items"]["trial-0002"]
    assert (item["front"], item["evaluated"]) == ([5, 10, 15, 20], [5, 20])


def test_what_all_trials_have_alike_is_told_once() -> None:
    panel = trial_panel(small_story())
    assert panel["common"]["dataset"] == "digits" and panel["common"]["epochs"] == 60
    assert not panel["common"].keys() & digits_settings().search_space.keys()
    for item in panel["items"].values():
        assert not item["config"].keys() & panel["common"].keys()
        assert not item["config"].keys() & item["parameters"].keys()


def test_common_and_own_settings_are_the_whole_configuration() -> None:
    panel = trial_panel(small_story())
    item = panel["items"]["trial-0001"]
    told = {**panel["common"], **item["config"], **item["parameters"]}
    assert told["optimizer.head_lr"] == 0.002 and told["head.depth"] == 1
    assert "head.depth" not in panel["items"]["trial-0000"]["config"]
    assert {"batch_size", "seed", "warmup.epochs"} <= told.keys()


def test_warnings_reasons_and_sources_are_told() -> None:
    events = [
        imported(0, parameters("mlp"), (0.5, 9.0)),
        TrialWarned("trial-0000", "no positives", START),
        TrialRetried("trial-0000", "its process died", START),
        *proposal(digits_settings(), 3, parameters("mlp")),
        TrialEnded("trial-0003", "failed", "out of memory", START),
    ]
    items = trial_panel(small_story(events=events))["items"]
    assert items["trial-0000"]["warning"] == "no positives"
    assert [items[name]["retries"] for name in ("trial-0000", "trial-0001")] == [
        ["its process died"],
        [],
    ]
    assert (items["import-0000"]["source"], items["import-0000"]["run"]) == ("earlier/trial-0000", "")
    assert (items["trial-0003"]["reason"], items["trial-0003"]["curves"]) == ("out of memory", {})


def test_a_trial_that_confirms_says_which() -> None:
    config = to_trial_config(digits_settings().trial, {"seed": 43}).model_dump(mode="json")
    events = [TrialProposed("trial-0000-seed-43", 0, {}, config, START, confirms="trial-0000")]
    item = trial_panel(small_story(events=events))["items"]["trial-0000-seed-43"]
    assert item["confirms"] == "trial-0000"


def test_axes_are_shared_by_what_is_measured_alike() -> None:
    groups = trial_panel(small_story())["curves"]
    assert [group["label"] for group in groups] == ["knn_accuracy", "d_eff", "loss"]
    assert [metric["name"] for metric in groups[1]["metrics"]] == [
        "encoder_d_eff",
        "unnormalized_d_eff",
        "d_eff",
    ]
    assert [group["logarithmic"] for group in groups] == [False, True, False]


def test_pairs_have_their_correlation() -> None:
    panel = trial_panel(pairs_story())
    assert panel["objectives"] == ["spearman", "d_eff"]
    assert panel["items"]["trial-0000"]["curves"]["spearman"] == [0.74, 0.84]


def test_numbers_that_are_not_finite_are_json() -> None:
    """The training loss of an epoch may be none; a point's objectives are always finite."""
    config = digits_settings().trial.model_dump(mode="json") | {"temperature": -math.inf}
    proposed = TrialProposed("trial-0000", 0, {"temperature": math.inf}, config, START)
    events = [*opening(digits_settings()), proposed]
    values = [metrics(0.5, 9.0, train_loss=loss) for loss in (math.nan, math.inf, 1.23456)]
    events += [report(0, n, one) for n, one in enumerate(values, 1)]
    events.append(report(0, 4, metrics(math.nan, 9.0)))
    panel = trial_panel(SweepStory(events))
    item = json.loads(json.dumps(panel, allow_nan=False))["items"]["trial-0000"]
    assert item["curves"]["train_loss"] == [None, None, 1.235]
    assert (item["epochs"], item["parameters"]["temperature"]) == ([1, 2, 3], "inf")


def test_of_very_many_points_only_trials_on_the_front_have_all_curves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = digits_settings()
    poor = trial(settings, 3, parameters("mlp"), [metrics(0.01, 100.0)])
    assert "train_loss" in trial_panel(small_story(events=poor))["items"]["trial-0003"]["curves"]
    monkeypatch.setattr(module, "MANY_POINTS", 5)
    items = trial_panel(small_story(events=poor))["items"]
    assert items["trial-0003"]["curves"].keys() == {"knn_accuracy", "d_eff"}
    assert "train_loss" in items["trial-0002"]["curves"]


def test_names_and_texts_are_as_they_came() -> None:
    config = digits_settings().trial.model_dump(mode="json")
    found = report(0, 5, metrics(0.5, 9.0)).report
    events = [
        *opening(digits_settings()),
        TrialProposed(HOSTILE, 0, {HOSTILE: HOSTILE}, config, START),
        RunOpened(HOSTILE, HOSTILE, START),
        TrialReported(HOSTILE, found, START),
        TrialEnded(HOSTILE, "failed", HOSTILE, START),
    ]
    item = trial_panel(SweepStory(events))["items"][HOSTILE]
    assert (item["run"], item["reason"], item["parameters"]) == (HOSTILE, HOSTILE, {HOSTILE: HOSTILE})
