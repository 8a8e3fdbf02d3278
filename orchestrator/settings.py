"""YAML to SweepSettings: one file says everything about a sweep; whatever is wrong in it is said
with its line before anything starts. Imports neither torch nor ray, so the answer is immediate.
"""

from __future__ import annotations

import difflib
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML

from orchestrator.errors import UserError
from orchestrator.search_space import (
    Parameter,
    Value,
    check,
    default_of,
    is_active,
    order,
    setting_names,
    to_trial_config,
)
from orchestrator.yaml_source import Location, YamlSource, plain, read_yaml
from trainables.config import TrialConfig
from trainables.reports import METRICS, Direction

SamplerKind = Literal["tpe", "nsga2", "random"]
EmbeddingsOf = Literal["front", "all", "none"]
EvaluatedPoints = Literal["front", "best", "none"]
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(s|m|h|d)\s*")
_METRICS_IN_SHORT = [n for n in METRICS if not n.startswith("recall")] + ["recall_at_1 .. recall_at_20"]
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def parse_duration(value: Any) -> float | None:
    """Seconds of a duration such as 90s, 10m, 12h or 2d; None stays None."""
    if value is None:
        return None
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None or float(match[1]) == 0:
        raise ValueError(f"a duration is a number above 0 with s, m, h or d, such as 10m; got {value!r}")
    return float(match[1]) * _SECONDS[match[2]]


def parse_name(value: Any) -> str:
    """A name that is safe as a folder and in a URL."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError(
            f"a name has up to 100 letters, digits, dots, dashes and underscores, got {value!r}"
        )
    return value


Duration = Annotated[float | None, BeforeValidator(parse_duration)]
Name = Annotated[str, BeforeValidator(parse_name)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class SearchSettings(_Settings):
    """How many trials, and who proposes them."""

    sampler: SamplerKind = "tpe"
    trials: int = Field(default=64, ge=1)
    time_budget: Duration = None
    seed: int = Field(default=42, ge=0, lt=2**32)


class ResourceSettings(_Settings):
    """What one trial runs on.

    Attributes:
        workers: 0 runs each trial in a warm process; N starts a group of N workers for each trial.
        cpus: CPU cores a worker.
        gpus: GPUs a worker; a fraction lets trials share a GPU (workers: 0 only).
        max_concurrent: trials at a time; as many as the cluster holds where left out.
    """

    workers: int = Field(default=0, ge=0)
    cpus: int = Field(default=1, ge=1)
    gpus: float = Field(default=0, ge=0)
    max_concurrent: int | None = Field(default=None, ge=1)


class EvaluationSettings(_Settings):
    """The final evaluation on the test set, after the search.

    Attributes:
        points: whose: the front's, also each trial's best in the first objective, none.
        cpus: CPU cores an evaluation; as a trial's where left out.
        gpus: GPUs an evaluation; as a trial's, at most one, where left out.
    """

    points: EvaluatedPoints = "front"
    cpus: int | None = Field(default=None, ge=1)
    gpus: float | None = Field(default=None, ge=0, le=1)


class TrackingSettings(_Settings):
    """Where results go.

    Attributes:
        uri: an MLflow tracking URI.
        experiment: the MLflow experiment; the sweep file's name where left out.
        embeddings: whose embeddings are stored: the front's points, all trials', none.
    """

    uri: str = "sqlite:///mlflow.db"
    experiment: Name | None = None
    embeddings: EmbeddingsOf = "front"


def parse_storage(value: Any) -> str:
    """A path that a folder can have."""
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError(f"storage is the path of a folder, got {value!r}")
    return value


class SweepSettings(_Settings):
    """One sweep, whole."""

    name: Name
    trial: TrialConfig = TrialConfig()
    search_space: dict[str, Parameter]
    first_trials: list[dict[str, Value]] = []
    objectives: dict[str, Direction] = {"knn_accuracy": "max", "d_eff": "min"}
    reference_point: dict[str, float] = {}
    search: SearchSettings = SearchSettings()
    resources: ResourceSettings = ResourceSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    tracking: TrackingSettings = TrackingSettings()
    storage: Annotated[str, BeforeValidator(parse_storage)] = "runs"

    @property
    def experiment(self) -> str:
        return self.tracking.experiment or self.name

    @property
    def evaluation_resources(self) -> ResourceSettings:
        """What one final evaluation runs on."""
        given, trial = self.evaluation, self.resources
        cpus = trial.cpus if given.cpus is None else given.cpus
        gpus = min(trial.gpus, 1) if given.gpus is None else given.gpus
        return ResourceSettings(workers=0, cpus=cpus, gpus=gpus, max_concurrent=trial.max_concurrent)

    def reference(self) -> dict[str, float]:
        """The hypervolume's reference: per objective the YAML's value, else the worst there can be."""
        return {name: self._worst(name) for name in self.objectives}

    def _worst(self, objective: str) -> float:
        worst = self.reference_point.get(objective, METRICS[objective].worst)
        if worst == "embedding_dim":
            return float(self.trial.embedding_dim)
        assert worst is not None and not isinstance(worst, str)
        return float(worst)


def load_settings(path: Path, overrides: Sequence[str] = ()) -> SweepSettings:
    """Reads, overrides and validates a sweep file.

    Raises:
        UserError: one message that lists everything found wrong, each with its line.
    """
    source = read_yaml(path)
    for override in overrides:
        source.set(override)
    data = plain(source.data)
    try:
        settings = SweepSettings.model_validate(data)
    except ValidationError as error:
        raise UserError("\n".join(_explain(source, error))) from None
    if faults := _inconsistencies(settings):
        raise UserError("\n".join(f"{source.where(place)}: {text}" for place, text in faults))
    return settings


def locate(path: Path, overrides: Sequence[str], location: Location) -> str:
    """The place of a setting for a message: `file.yaml:12: `, or the `--set` that wrote it.

    Empty where the file does not name the setting.
    """
    source = read_yaml(path)
    for override in overrides:
        source.set(override)
    return f"{source.where(location)}: " if source.names(location) else ""


def _explain(source: YamlSource, error: ValidationError) -> list[str]:
    """One line an error, without pydantic's own vocabulary."""
    lines: list[str] = []
    for item in error.errors():
        location = [part for part in item["loc"] if part != "[key]"]
        dotted = ".".join(map(str, location))
        lines.append(f"{source.where(location)}: {_sentence(item, location, dotted)}")
    return list(dict.fromkeys(lines))


def _sentence(item: Mapping[str, Any], location: Sequence[int | str], dotted: str) -> str:
    message = str(item["msg"]).removeprefix("Value error, ")
    got = item.get("input")
    if item["type"] == "extra_forbidden":
        return f"unknown key {dotted!r}{_nearest(str(location[-1]), _known_keys(location[:-1]))}"
    if item["type"] == "missing":
        return f"{dotted!r} is missing; add it"
    if item["type"] == "literal_error":
        expected = re.findall(r"'([^']*)'", str(item["ctx"]["expected"]))
        return (
            f"{dotted} is {got!r}, which is none of {', '.join(expected)}{_nearest(str(got), expected)}"
        )
    if item["type"] == "value_error":
        return f"{dotted}: {message}"
    if item["type"] in ("model_type", "dict_type"):
        return f"{dotted} is a group of settings, written as a mapping; got {got!r}"
    message = message[:1].lower() + message[1:]
    return f"{dotted}: {message}, got {got!r}"


def _nearest(word: str, known: Iterable[str], in_short: Iterable[str] | None = None) -> str:
    known = list(known)
    if close := difflib.get_close_matches(word, known, n=1, cutoff=0.5):
        return f"; did you mean {close[0]!r}?"
    return f"; known are {', '.join(in_short or known)}" if known else ""


def _known_keys(location: Location) -> list[str]:
    model: Any = SweepSettings
    for part in location:
        if model is SweepSettings and part == "search_space":
            model = dict
        elif model is dict:
            model = Parameter
        else:
            model = model.model_fields[str(part)].annotation
    return list(model.model_fields) if model is not dict else setting_names()


_Faults = list[tuple[Location, str]]


def _inconsistencies(settings: SweepSettings) -> _Faults:
    """What is wrong between parts that are each well-formed."""
    faults = _unfit_parameters(settings)
    if not faults:
        faults += [
            (("search_space", *fault.location), fault.message) for fault in check(settings.search_space)
        ]
    faults += _unfit_objectives(settings)
    faults += _unfit_resources(settings)
    if not faults:
        faults += _unfit_first_trials(settings)
    return faults


def _unfit_parameters(settings: SweepSettings) -> _Faults:
    faults: _Faults = []
    if not settings.search_space:
        faults.append((("search_space",), "the search space is empty; name at least one parameter"))
    for name, parameter in settings.search_space.items():
        location = ("search_space", name)
        if name == "preset":
            text = "a preset does not vary; name it under trial, and vary the settings it stands for"
            faults.append((location, text))
            continue
        try:
            default_of(settings.trial, name)
        except KeyError:
            text = f"{name!r} is not a setting of a trial{_nearest(name, setting_names())}"
            faults.append((location, text))
            continue
        for value in parameter.extremes():
            try:
                to_trial_config(settings.trial, {name: value})
            except ValidationError as error:
                sentence = _sentence(error.errors()[0], name.split("."), name)
                faults.append(((*location, parameter.kind), sentence))
    return faults


def _unfit_objectives(settings: SweepSettings) -> _Faults:
    faults: _Faults = []
    if len(settings.objectives) < 1:
        faults.append((("objectives",), "name at least one objective, such as knn_accuracy: max"))
    for name, direction in settings.objectives.items():
        if name not in METRICS:
            text = f"no metric is called {name!r}{_nearest(name, METRICS, _METRICS_IN_SHORT)}"
            faults.append((("objectives", name), text))
        elif METRICS[name].worst is None and name not in settings.reference_point:
            text = f"{name} has no worst value of its own; give one under reference_point"
            faults.append((("objectives", name), text))
        elif METRICS[name].direction != direction and name not in settings.reference_point:
            text = (
                f"{name} is better the {'larger' if direction == 'min' else 'smaller'} it is, got "
                f"{direction}; if you mean it, give its worst value under reference_point"
            )
            faults.append((("objectives", name), text))
    for name in settings.reference_point:
        if name not in settings.objectives:
            text = f"{name!r} is not an objective{_nearest(name, settings.objectives)}"
            faults.append((("reference_point", name), text))
    return faults


def _unfit_resources(settings: SweepSettings) -> _Faults:
    resources, device = settings.resources, settings.trial.device
    if device == "cuda" and not resources.gpus:
        text = "device is cuda, but resources.gpus is 0; ask for a GPU, or set device to auto"
        return [(("trial", "device"), text)]
    if device == "cpu" and resources.gpus:
        text = "device is cpu, but resources.gpus asks for a GPU; set gpus to 0, or device to auto"
        return [(("trial", "device"), text)]
    if resources.gpus > 1 and resources.workers == 0:
        text = "one process trains on one GPU; set resources.workers to the number of GPUs and gpus to 1"
        return [(("resources", "gpus"), text)]
    if resources.workers and not float(resources.gpus).is_integer():
        text = "a worker group needs whole GPUs; set gpus to a whole number or workers to 0"
        return [(("resources", "gpus"), text)]
    return []


def _unfit_first_trials(settings: SweepSettings) -> _Faults:
    faults: _Faults = []
    for index, given in enumerate(settings.first_trials):
        location = ("first_trials", index)
        for name in given:
            if name not in settings.search_space:
                text = f"{name!r} is not in search_space{_nearest(name, settings.search_space)}"
                faults.append(((*location, name), text))
        values = complete_first_trial(settings, given)
        for name, value in values.items():
            if not settings.search_space[name].contains(value):
                origin = "" if name in given else " (the value under trial)"
                text = f"{name} is {value!r}{origin}, outside its search space; give one inside it"
                faults.append(((*location, name), text))
        for name in given.keys() & settings.search_space.keys() - values.keys():
            text = f"{name} does not exist where {settings.search_space[name].when} does not hold"
            faults.append(((*location, name), text))
    return faults


def complete_first_trial(settings: SweepSettings, given: Mapping[str, Value]) -> dict[str, Value]:
    """A first trial's value for every parameter that exists in it; what it leaves out is `trial`'s."""
    values: dict[str, Value] = {}
    for name in order(settings.search_space):
        if is_active(settings.search_space[name], values):
            values[name] = given.get(name, default_of(settings.trial, name))
    return values


def to_yaml(settings: SweepSettings) -> str:
    """The resolved settings as a sweep file that `load_settings` reads back to the same settings."""
    data = settings.model_dump(mode="json")
    data["search_space"] = {
        name: parameter.model_dump(mode="json", exclude_defaults=True)
        for name, parameter in settings.search_space.items()
    }
    budget = settings.search.time_budget
    data["search"]["time_budget"] = None if budget is None else f"{Decimal(repr(budget)):f}s"
    text = io.StringIO()
    yaml = YAML(typ="safe")
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # pyright: ignore[reportAttributeAccessIssue]
    yaml.dump(data, text)
    return text.getvalue()
