from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import pytest
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sweep_events import ended, imported, proposed, reported, settings_of, started

from orchestrator.events import Event, RunOpened, SweepEnded, SweepStarted
from orchestrator.optuna_study import describe
from orchestrator.proposals import distribution

SETTINGS = settings_of()
NONE = {"head.kind": "none", "temperature": 0.1}
MLP = {"head.kind": "mlp", "head.depth": 2, "temperature": 0.2}
HISTORY: list[Event] = [
    SweepStarted("s", {}, {}, time=1.0),
    proposed("trial-0000", 0, **NONE),
    RunOpened("trial-0000", "run-of-0000", time=1.0),
    started("trial-0000", time=2.0),
    proposed("trial-0001", 1, **MLP),
    started("trial-0001", time=3.0),
    reported("trial-0000", 5, 0.9, 20.0),
    reported("trial-0000", 10, 0.95, 30.0),
    reported("trial-0001", 5, 0.8, 4.0),
    ended("trial-0000"),
    ended("trial-0001", "stopped", "early stopping at epoch 5"),
    proposed("trial-0002", 2, **NONE),
    ended("trial-0002", "failed", "out of memory"),
    proposed("trial-0003", 3, **MLP),
    started("trial-0003", time=7.0),
    reported("trial-0003", 5, 0.1, 90.0),
    proposed("trial-0004", 4, **MLP),
]
"""A sweep whose driver was killed: no trial's end and no sweep's is missing that did not happen."""


def trials_of(history: Sequence[Event] = HISTORY, **changes: object) -> list[FrozenTrial]:
    return describe("s", settings_of(**changes), history).trials


def test_the_study_has_the_sweeps_name_directions_and_metrics() -> None:
    study = describe("digits-1", SETTINGS, HISTORY)
    assert (study.name, study.metric_names) == ("digits-1", ["knn_accuracy", "d_eff"])
    assert study.directions == [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]
    assert study.user_attrs["status"] == "running"
    # 0.8 * (128 - 4) + 0.1 * (128 - 20) + 0.05 * (128 - 30)
    assert study.user_attrs["hypervolume"] == pytest.approx(99.2 + 10.8 + 4.9)


def test_states_are_those_of_optuna() -> None:
    assert [trial.state for trial in trials_of()] == [
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.FAIL,
        TrialState.RUNNING,
        TrialState.RUNNING,
    ]


def test_values_are_those_that_the_sampler_is_told() -> None:
    # 0.9 * 108 = 97.2 is more than 0.95 * 98 = 93.1, so epoch 5 stands for the first trial.
    assert [t.values for t in trials_of()] == [[0.9, 20.0], [0.8, 4.0], None, None, None]


def test_parameters_come_with_the_distributions_of_the_space() -> None:
    for trial, expected in zip(trials_of(), [NONE, MLP, NONE, MLP, MLP], strict=True):
        assert trial.params == expected
        assert trial.distributions == {n: distribution(SETTINGS.search_space[n]) for n in expected}


def test_times_are_those_of_the_training() -> None:
    first, _, failed, running, pending = trials_of()
    assert (first.datetime_start, first.datetime_complete) == tuple(
        map(datetime.fromtimestamp, (2.0, 10.0))
    )
    assert failed.datetime_complete == datetime.fromtimestamp(10.0)
    assert (running.datetime_start, running.datetime_complete) == (datetime.fromtimestamp(7.0), None)
    assert pending.datetime_start == datetime.fromtimestamp(0.0)  # when it was proposed


def test_what_optuna_has_no_place_for_is_in_user_attributes() -> None:
    first, stopped, failed, *_ = (trial.user_attrs for trial in trials_of())
    assert first == {
        "trial": "trial-0000",
        "status": "completed",
        "seed": 42,
        "epoch": 5,
        "front epochs": "5, 10",
        "MLflow run": "run-of-0000",
        "knn_accuracy by epoch": {"5": 0.9, "10": 0.95},
        "d_eff by epoch": {"5": 20.0, "10": 30.0},
    }
    assert (stopped["status"], stopped["reason"]) == ("stopped", "early stopping at epoch 5")
    assert failed == {
        "trial": "trial-0002",
        "status": "failed",
        "reason": "out of memory",
        "seed": 42,
    }


def test_one_objective_has_a_value_each_epoch() -> None:
    trials = trials_of(objectives={"knn_accuracy": "max"})
    assert [trial.intermediate_values for trial in trials] == [
        {5: 0.9, 10: 0.95},
        {5: 0.8},
        {},
        {5: 0.1},
        {},
    ]
    assert trials[0].values == [0.95]
    assert "knn_accuracy by epoch" not in trials[0].user_attrs


def test_several_objectives_have_no_values_each_epoch_in_optuna() -> None:
    assert not any(trial.intermediate_values for trial in trials_of())


def test_constraints_are_optunas_and_the_pick_is_named() -> None:
    settings = settings_of(constraints=["knn_accuracy >= 0.85"], pick="best d_eff")
    study = describe("s", settings, HISTORY)
    first, second, failed, *_ = (trial.constraints for trial in study.trials)
    (name,) = first
    assert first[name] <= 0 < second[name]
    assert failed == {}
    assert study.user_attrs["picked (best d_eff)"] == "trial-0000, epoch 5"


def test_a_reference_that_is_not_known_yet_is_left_out() -> None:
    settings = settings_of(reference_point={"d_eff": "1.1 * baseline"})
    assert "hypervolume" in describe("s", settings, HISTORY).user_attrs
    assert "hypervolume" not in describe("s", settings, HISTORY[:8]).user_attrs


def test_a_trial_that_the_end_of_the_sweep_cut_short_is_pruned() -> None:
    cut = [ended("trial-0003", "interrupted"), ended("trial-0004", "interrupted")]
    history = [*HISTORY, *cut, SweepEnded("interrupted", "interrupted by SIGINT", 11.0)]
    assert [trial.state for trial in trials_of(history)][3:] == [TrialState.PRUNED, TrialState.FAIL]
    assert describe("s", SETTINGS, history).user_attrs["reason"] == "interrupted by SIGINT"


def test_imported_trials_come_after_the_sweeps_own() -> None:
    history = [HISTORY[0], imported("import-0000", (0.97, 3.0), **NONE), *HISTORY[1:]]
    trials = trials_of(history)
    assert [trial.user_attrs["trial"][-4:] for trial in trials[:-1]] == [f"{n:04d}" for n in range(5)]
    assert (trials[-1].number, trials[-1].state) == (5, TrialState.COMPLETE)
    assert (trials[-1].values, trials[-1].params) == ([0.97, 3.0], NONE)
    assert trials[-1].user_attrs["source"] == "earlier/import-0000"
