from __future__ import annotations

import pandas as pd
from tracked_sweeps import params

from dashboards.sweep_results import TrialMetrics, TrialRun, configurations, first_by_head, select


def trial(name: str, settings: dict[str, str], evaluated: bool = True) -> TrialRun:
    return TrialRun(name, f"id-{name}", "completed", settings, evaluated)


def metrics(validation: dict[int, float], test: dict[int, float]) -> TrialMetrics:
    frames = [pd.DataFrame({"knn_accuracy": pd.Series(v, dtype=float)}) for v in (validation, test)]
    return TrialMetrics(*frames)


def chosen(validation: dict[int, float], test: dict[int, float]) -> tuple[int, int | None] | None:
    point = select(trial("t", params()), metrics(validation, test))
    return None if point is None else (point.epoch, point.better_epoch)


def test_the_epoch_is_the_best_on_validation_whatever_the_test_says() -> None:
    assert chosen({5: 0.7, 10: 0.9, 15: 0.8}, {5: 0.99, 10: 0.1, 15: 0.5}) == (10, None)


def test_of_equal_epochs_the_earlier_is_taken() -> None:
    assert chosen({15: 0.9, 10: 0.9, 5: 0.1}, {10: 0.5, 15: 0.6}) == (10, None)


def test_only_evaluated_epochs_are_selected_and_a_better_one_is_named() -> None:
    assert chosen({5: 0.7, 10: 0.9, 15: 0.8}, {5: 0.7, 15: 0.6}) == (15, 10)


def test_an_equal_epoch_that_was_not_evaluated_is_not_better() -> None:
    assert chosen({5: 0.9, 10: 0.9}, {10: 0.5}) == (10, None)


def test_nothing_is_selected_without_an_evaluation_or_a_validation() -> None:
    assert chosen({5: 0.7}, {}) is None
    assert chosen({}, {5: 0.7}) is None


def test_a_point_has_the_metrics_of_its_epoch() -> None:
    point = select(trial("t", params()), metrics({5: 0.7, 10: 0.8}, {5: 0.5, 10: 0.6}))
    assert point and (point.validation, point.test) == ({"knn_accuracy": 0.8}, {"knn_accuracy": 0.6})


def test_a_configuration_is_all_but_seed_and_execution() -> None:
    a = trial("a", params("mlp", 42))
    b = trial("b", params("mlp", 43, device="cpu", compile=True, channels_last=False))
    c = trial("c", params("mlp", 42, head__depth=2))
    d = trial("d", params("mlp", 42, precision="bf16"))
    groups = [[t.name for t in configuration.trials] for configuration in configurations([a, c, b, d])]
    assert groups == [["a", "b"], ["c"], ["d"]]


def test_of_each_head_the_configuration_proposed_first_is_taken_evaluated_or_not() -> None:
    trials = [
        trial("a", params("mlp"), evaluated=False),
        trial("b", params("none")),
        trial("c", params("mlp", temperature=0.2)),
        trial("d", params("mlp", 43)),
    ]
    first = {head: [t.name for t in c.trials] for head, c in first_by_head(trials).items()}
    assert first == {"mlp": ["a", "d"], "none": ["b"]}
