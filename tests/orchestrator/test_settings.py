from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from sweep_events import CONDITIONAL_SPACE, EXAMPLES, settings_of

from orchestrator.search_space import complete
from orchestrator.settings import SweepSettings, load_settings, parse_duration
from orchestrator.settings_text import from_data, to_yaml
from trainables.reports import METRICS

Write = Callable[[str | bytes], Path]

ROOT = Path(__file__).parents[2]
SPACES = sorted(ROOT.glob("search_spaces/*.yaml"))


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.name)
def test_every_search_space_of_the_repository_loads(path: Path) -> None:
    settings = load_settings(path)
    assert settings.name == path.stem
    assert settings.reference().keys() == settings.objectives.keys()
    for given_values in settings.first_trials:
        complete(settings.search_space, settings.trial, given_values)


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.name)
def test_every_search_space_survives_to_yaml(path: Path, write_space: Write) -> None:
    settings = load_settings(path)
    again = load_settings(write_space(to_yaml(settings)))
    assert again == settings
    assert list(again.objectives) == list(settings.objectives)
    assert list(again.search_space) == list(settings.search_space)


variants = st.fixed_dictionaries(
    {"name": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,9}", fullmatch=True)},
    optional={
        "trial": st.fixed_dictionaries(
            {"patience_epochs": st.none() | st.integers(1, 99)},
            optional={"temperature": st.floats(0.03, 0.5), "head": st.just({"kind": "none"})},
        ),
        "search": st.fixed_dictionaries(
            {"time_budget": st.none() | st.sampled_from(["90s", "1.5m", "12h", "2d", "7d", "0.5s"])},
            optional={
                "sampler": st.sampled_from(["tpe", "nsga2", "nsga3", "qmc", "random"]),
                "epochs": st.none() | st.integers(1, 99),
                "stall": st.none() | st.just({"trials": 5, "growth": 0.02}),
                "trials": st.integers(1, 9),
            },
        ),
        "objectives": st.permutations(["knn_accuracy", "recall_at_1"]).map(
            lambda n: dict.fromkeys(n, "max")
        ),
        "first_trials": st.lists(
            st.fixed_dictionaries({"temperature": st.floats(0.03, 0.5)}), max_size=2
        ),
        "tracking": st.fixed_dictionaries(
            {"experiment": st.none() | st.sampled_from(["null", "1e3", "a.b"])}
        ),
        "confirm": st.none() | st.fixed_dictionaries({"seeds": st.integers(1, 9)}),
        "resources": st.fixed_dictionaries({"gpus": st.sampled_from([0, 0.25, 1])}),
        "storage": st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1),
    },
)


@EXAMPLES
@given(variants)
def test_to_yaml_is_read_back_to_the_same_settings(
    tmp_path_factory: pytest.TempPathFactory, data: dict[str, Any]
) -> None:
    settings = settings_of(**data)
    path = tmp_path_factory.getbasetemp() / "resolved.yaml"
    path.write_text(to_yaml(settings), encoding="utf-8")
    again = load_settings(path)
    assert again == settings
    assert list(again.objectives) == list(settings.objectives)


@EXAMPLES
@given(variants)
def test_settings_come_back_out_of_a_ledger(data: dict[str, Any]) -> None:
    settings = settings_of(**data)
    again = from_data(json.loads(json.dumps(settings.model_dump(mode="json"))))
    assert again == settings
    assert list(again.objectives) == list(settings.objectives)


def _durations(model: type[BaseModel]) -> dict[str, Any]:
    """A value for every setting that is a duration."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if any(getattr(rule, "func", None) is parse_duration for rule in field.metadata):
            found[name] = "90s"
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found[name] = _durations(field.annotation)
    return {name: value for name, value in found.items() if value}


def test_every_duration_comes_back(write_space: Write) -> None:
    durations = _durations(SweepSettings)
    assert durations["resources"] == {"wait_for_nodes": "90s"}
    settings = settings_of(**durations)
    assert from_data(settings.model_dump(mode="json")) == settings
    assert load_settings(write_space(to_yaml(settings))) == settings


def test_what_an_older_ledger_lacks_has_its_default() -> None:
    settings = settings_of(search={"time_budget": "90s"})
    data = settings.model_dump(mode="json")
    del data["checkpoint_every"], data["search"]["trials"], data["tracking"]
    assert from_data(data) == settings
    del data["search"]
    assert from_data(data) == settings_of()
    with pytest.raises(ValidationError):
        from_data({**data, "unknown": 1})


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.name)
@pytest.mark.parametrize(
    "overrides", [[], ["search.time_budget=90s"]], ids=["as it is", "with a budget"]
)
def test_every_search_space_comes_back_out_of_a_ledger(path: Path, overrides: list[str]) -> None:
    settings = load_settings(path, overrides)
    assert from_data(json.loads(json.dumps(settings.model_dump(mode="json")))) == settings


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("10m", 600),
        ("12h", 43200),
        ("2d", 172800),
        ("1.5 h", 5400),
        (" 3s ", 3),
        (None, None),
    ],
)
def test_parse_duration_gives_seconds(text: str | None, seconds: float | None) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("value", [10, 1.5, True, "", "s", "10", "-3s", "0m", "1h30m", "10 min", "1e3s"])
def test_parse_duration_refuses_what_has_no_unit(value: object) -> None:
    with pytest.raises(ValueError, match="such as 10m"):
        parse_duration(value)


def test_reference_is_the_worst_there_can_be() -> None:
    settings = settings_of(
        objectives={"knn_accuracy": "max", "d_eff": "min", "train_loss": "min"},
        reference_point={"train_loss": 9},
    )
    worst = {"knn_accuracy": 0.0, "d_eff": 128.0, "train_loss": 9.0}
    assert settings.reference() == worst


def test_reference_point_comes_before_the_natural_worst() -> None:
    settings = settings_of(reference_point={"knn_accuracy": 0.5})
    assert settings.reference()["knn_accuracy"] == 0.5
    assert settings.reference()["d_eff"] == 128.0


def test_a_metric_without_worst_value_takes_a_reference_point() -> None:
    for name in (name for name, metric in METRICS.items() if metric.worst is None):
        settings = settings_of(objectives={name: "min"}, reference_point={name: 3})
        assert settings.reference() == {name: 3.0}


@pytest.mark.parametrize(
    ("given_values", "completed"),
    [
        ({"head.kind": "none"}, {"head.kind": "none", "temperature": 0.1}),
        ({"head.kind": "mlp"}, {"head.kind": "mlp", "head.depth": 1, "temperature": 0.1}),
        (
            {"head.depth": 3, "temperature": 0.2},
            {"head.kind": "monotonic", "head.depth": 3, "temperature": 0.2},
        ),
    ],
)
def test_a_first_trial_is_completed_from_trial(given_values: Any, completed: dict[str, Any]) -> None:
    assert complete(settings_of().search_space, settings_of().trial, given_values) == completed


def test_experiment_is_the_name_where_left_out() -> None:
    assert settings_of().experiment == "s"
    assert settings_of(tracking={"experiment": "e"}).experiment == "e"


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        settings_of().name = "other"


def test_a_when_with_one_value_needs_no_list() -> None:
    space = {**CONDITIONAL_SPACE, "epochs": {"int": [1, 2], "when": {"head.kind": "mlp"}}}
    assert settings_of(search_space=space).search_space["epochs"].when == {"head.kind": ["mlp"]}


@pytest.mark.slow
@pytest.mark.parametrize("module", ["orchestrator.settings", "orchestrator.sweep"])
def test_importing_settings_loads_no_heavy_library(module: str) -> None:
    heavy = ("torch", "ray", "mlflow", "optuna", "pandas")
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("budget", ["12d", "123456.7s", "90s", "0.5h"])
def test_to_yaml_keeps_durations_exactly(
    budget: str, write_space: Callable[[str], Path], tmp_path: Path
) -> None:
    space = "name: s\nsearch_space: {temperature: {uniform: [0.1, 1]}}\n"
    space += f"checkpoint_every: {budget}\n"
    settings = load_settings(write_space(space + f"search: {{time_budget: {budget}}}\n"))
    again = tmp_path / "again.yaml"
    again.write_text(to_yaml(settings))
    assert load_settings(again) == settings


@pytest.mark.parametrize(
    ("resources", "evaluation", "expected"),
    [
        ({"cpus": 4, "gpus": 0.5, "max_concurrent": 2}, {}, (4, 0.5)),
        ({"workers": 8, "cpus": 4, "gpus": 2}, {}, (4, 1)),
        ({"cpus": 4, "gpus": 1}, {"cpus": 2, "gpus": 0}, (2, 0)),
    ],
)
def test_an_evaluation_runs_on_what_a_trial_does_unless_told_otherwise(
    resources: dict[str, float], evaluation: dict[str, float], expected: tuple[int, float]
) -> None:
    given = settings_of(resources=resources, evaluation=evaluation).evaluation_resources
    assert (given.workers, given.cpus, given.gpus) == (0, *expected)
    assert given.max_concurrent == resources.get("max_concurrent")
