from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sweep_events import CONDITIONAL_SPACE, EXAMPLES, settings_of

from orchestrator.ask_and_tell import Known, Told
from orchestrator.errors import UserError
from orchestrator.events import TrialImported
from orchestrator.imports import EarlierSweep, EarlierTrial, fit, import_sweeps
from orchestrator.proposals import Proposals
from orchestrator.search_space import to_trial_config
from orchestrator.settings import SweepSettings
from orchestrator.trial_settings import by_dotted_name, from_text, without_effect_on
from trainables.reports import EpochReport

SETTINGS = settings_of(trial={"temperature": 0.1, "batch_size": 128})
METRICS = {"knn_accuracy": 0.9, "d_eff": 5.0}
MLP = {"head.kind": "mlp", "head.depth": 2, "temperature": 0.2}


def report(epoch: int, **changes: float) -> EpochReport:
    return EpochReport(epoch, {**METRICS, **changes})


def earlier_trial(
    number: int = 0,
    values: Mapping[str, Any] = MLP,
    settings: SweepSettings = SETTINGS,
    reports: tuple[EpochReport, ...] | None = None,
    **changes: Any,
) -> EarlierTrial:
    """A trial that `settings` may have proposed; `changes` are to its settings, with _ for dots."""
    config = by_dotted_name(to_trial_config(settings.trial, values).model_dump())
    config |= {name.replace("__", "."): value for name, value in changes.items()}
    found = (report(5, validation_time_s=float(number)),) if reports is None else reports
    return EarlierTrial(f"a/trial-{number:04d}", False, config, found)


def reason(trial: EarlierTrial, settings: SweepSettings = SETTINGS) -> str:
    """Why a trial does not fit."""
    with pytest.raises(UserError) as caught:
        import_sweeps([EarlierSweep("a", [trial])], settings, 0.0)
    title, *lines, advice = str(caught.value).splitlines()
    assert title == "--import a: none of its 1 trials fits"
    assert advice.startswith("import another sweep, or give trial, search_space")
    (line,) = lines
    return line.removeprefix("  1: ")


def test_a_trial_that_fits_comes_with_parameters_configuration_and_epochs() -> None:
    reports = (report(5), report(10, knn_accuracy=0.95))
    trial = earlier_trial(reports=reports, seed=7, device="cuda")
    event = fit(trial, SETTINGS, "import-0003", 12.5)
    assert isinstance(event, TrialImported)
    assert (event.trial, event.source, event.time) == ("import-0003", "a/trial-0000", 12.5)
    assert event.parameters == MLP
    assert [EpochReport.from_dict(data) for data in event.reports] == list(reports)
    assert by_dotted_name(event.config) == trial.settings


def test_a_trial_on_images_from_before_there_were_sentences_fits() -> None:
    now = earlier_trial()
    older = {n: v for n, v in now.settings.items() if n not in without_effect_on("digits")}
    assert len(older) < len(now.settings)
    event = fit(replace(now, settings=older), SETTINGS, "import-0000", 0.0)
    assert isinstance(event, TrialImported)
    assert by_dotted_name(event.config) == now.settings


@EXAMPLES
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_whatever_a_sweep_proposes_fits_into_its_like(seed: int, is_of_mlflow: bool) -> None:
    settings = settings_of(search={"sampler": "random", "seed": seed})
    values = Proposals(settings).ask().values
    trial = earlier_trial(values=values, settings=settings)
    if is_of_mlflow:
        texts = {name: str(value) for name, value in trial.settings.items()}
        trial = EarlierTrial("a/trial-0000", False, from_text(texts), trial.reports)
    event = fit(trial, settings, "import-0000", 0.0)
    assert isinstance(event, TrialImported)
    assert event.parameters == values
    assert to_trial_config(settings.trial, values).model_dump() == event.config
    Proposals(settings, imported=[Known(event.parameters, {}, Told([0.5, 5.0]))])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"batch_size": 64}, "batch_size is 64 there and 128 here"),
        (
            {"batch_size": 64, "patience_epochs": None},
            "batch_size is 64 there and 128 here, patience_epochs is null there and 20 here",
        ),
        ({"temperature": 0.7}, "temperature is 0.7 there and 0.03 to 0.5 here"),
        ({"head__depth": 4}, "head.depth is 4 there and 1 to 3 here"),
        ({"head__kind": "other"}, "head.kind is other there and one of none, mlp, monotonic here"),
        ({"head__width_ratio": 4.0}, "head.width_ratio is 4.0 there and 2.0 here"),
        ({"compile": True}, "compile is true there and false here"),
        ({"dropout": 0.1}, "dropout is 0.1 there and unknown here"),
        ({"data__source": "/a"}, "data.source is /a there and null here"),
    ],
)
def test_a_trial_that_differs_does_not_fit(changes: dict[str, Any], expected: str) -> None:
    assert reason(earlier_trial(**changes)) == expected


@pytest.mark.parametrize("name", ["temperature", "batch_size"])
def test_a_setting_that_nobody_knows_does_not_fit(name: str) -> None:
    trial = earlier_trial()
    known = {n: v for n, v in trial.settings.items() if n != name}
    said = reason(EarlierTrial(trial.source, False, known, trial.reports))
    assert said.startswith(f"{name} is unknown there and ")


def test_a_parameter_that_does_not_exist_is_compared_with_the_trials_own() -> None:
    space = {**CONDITIONAL_SPACE, "num_views": {"int": [1, 3], "when": {"head.kind": ["mlp"]}}}
    settings = settings_of(search_space=space)
    values = {"head.kind": "monotonic", "head.depth": 1, "temperature": 0.2}
    assert isinstance(fit(earlier_trial(0, values, settings), settings, "i", 0.0), TrialImported)
    said = reason(earlier_trial(0, values, settings, num_views=2), settings)
    assert said == "num_views is 2 there and 1 here"


def test_settings_of_a_head_have_no_effect_where_there_is_none() -> None:
    none = {"head.kind": "none", "temperature": 0.2}
    changed = fit(earlier_trial(0, none, head__width_ratio=9.0, head__depth=7), SETTINGS, "i", 0.0)
    assert changed == fit(earlier_trial(0, none), SETTINGS, "i", 0.0)
    assert isinstance(changed, TrialImported)


@pytest.mark.parametrize(("name", "value"), [("seed", 5), ("device", "cpu"), ("preset", None)])
def test_what_may_differ_is_compared_where_it_is_searched(name: str, value: Any) -> None:
    space = {**CONDITIONAL_SPACE, name: {"choice": [value]}}
    settings = settings_of(search_space=space)
    other = {"seed": 6, "device": "cuda", "preset": "paper_cifar100"}[name]
    trial = earlier_trial(0, {**MLP, name: value}, settings)
    event = fit(trial, settings, "i", 0.0)
    assert isinstance(event, TrialImported)
    assert event.parameters[name] == value
    changed = EarlierTrial("a/t", False, {**trial.settings, name: other}, trial.reports)
    assert reason(changed, settings).startswith(f"{name} is {other} there")


def test_values_are_those_that_a_sampler_gives() -> None:
    space = {"temperature": {"choice": [1, 2]}, "optimizer.head_lr": {"uniform": [0, 2]}}
    settings = settings_of(search_space=space)
    values = {"temperature": 2, "optimizer.head_lr": 1}
    event = fit(earlier_trial(0, values, settings), settings, "i", 0.0)
    assert isinstance(event, TrialImported)
    kinds = {name: type(value) for name, value in event.parameters.items()}
    assert kinds == {"temperature": int, "optimizer.head_lr": float}


def test_only_epochs_with_every_objective_are_taken() -> None:
    partial = EpochReport(3, {"knn_accuracy": 0.5})
    event = fit(
        earlier_trial(reports=(partial, report(5), report(8, d_eff=math.nan))), SETTINGS, "i", 0.0
    )
    assert isinstance(event, TrialImported)
    assert [data["epoch"] for data in event.reports] == [5]
    assert reason(earlier_trial(reports=(partial,))) == "without an epoch with a finite d_eff"
    assert reason(earlier_trial(reports=())) == "without a validated epoch"


def test_failed_trials_are_not_taken() -> None:
    trial = earlier_trial()
    assert reason(EarlierTrial(trial.source, True, trial.settings, trial.reports)) == "failed"


def test_the_report_groups_trials_by_what_is_in_their_way() -> None:
    trials = [
        earlier_trial(0),
        *(earlier_trial(n, temperature=n / 2) for n in (2, 3, 4, 5, 6)),
        *(earlier_trial(n, batch_size=64) for n in (7, 8)),
        earlier_trial(9, batch_size=32, temperature=4.0),
        earlier_trial(10),
    ]
    events, (text,) = import_sweeps([EarlierSweep("a", trials)], SETTINGS, 0.0)
    assert text.splitlines() == [
        "import a: 2 of 10 trials fit",
        "  5: temperature is 1, 1.5, 2 or others there and 0.03 to 0.5 here",
        "  2: batch_size is 64 there and 128 here",
        "  1: temperature is 4 there and 0.03 to 0.5 here, batch_size is 32 there and 128 here",
    ]
    assert [(event.trial, event.source) for event in events] == [
        ("import-0000", "a/trial-0000"),
        ("import-0001", "a/trial-0010"),
    ]


def test_a_trial_that_comes_by_two_ways_is_taken_once() -> None:
    trials = [earlier_trial(0), earlier_trial(1)]
    twice = [EarlierSweep("a", trials[:1]), EarlierSweep("mlflow:a", trials)]
    events, texts = import_sweeps(twice, SETTINGS, 0.0)
    assert [event.source for event in events] == ["a/trial-0000", "a/trial-0001"]
    assert texts == [
        "import a: 1 of 1 trials fit",
        "import mlflow:a: 1 of 2 trials fit\n  1: imported already",
    ]


def test_a_sweep_of_which_all_came_before_is_no_mistake() -> None:
    trials = [earlier_trial(0)]
    twice = [EarlierSweep("a", trials), EarlierSweep("b", trials)]
    events, texts = import_sweeps(twice, SETTINGS, 0.0)
    assert len(events) == 1
    assert texts[1] == "import b: 0 of 1 trials fit\n  1: imported already"


def test_a_sweep_without_a_trial_is_refused() -> None:
    with pytest.raises(UserError, match=r"^--import a: none of its 0 trials fits\n"):
        import_sweeps([EarlierSweep("a", [])], SETTINGS, 0.0)


BEFORE_SENTENCES = {
    *("preset", "dataset", "data.source", "data.num_classes", "data.num_training_items", "augmentation"),
    *("encoder", "encoder_weights", "head.kind", "head.depth", "head.width_ratio", "temperature"),
    *("num_views", "batch_size", "epochs", "optimizer.head_lr", "optimizer.encoder_lr_ratio"),
    *("optimizer.weight_decay", "optimizer.clip_norm", "warmup.epochs", "warmup.head_lr"),
    *("validate_every", "patience_epochs", "seed", "device", "precision", "channels_last", "compile"),
    "deterministic",
}
"""All settings that a trial had at commit 07945a4."""


def test_settings_of_images_from_before_are_all_that_an_import_compares() -> None:
    now = by_dotted_name(settings_of().trial.model_dump())
    assert now.keys() - without_effect_on("digits") == BEFORE_SENTENCES
