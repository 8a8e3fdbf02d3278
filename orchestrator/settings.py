"""YAML to SweepSettings: one file says everything about a sweep; whatever is wrong in it is said
with its line before anything starts. Imports neither torch nor ray, so the answer is immediate.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from ruamel.yaml.comments import CommentedMap

from orchestrator.constraints import Expression, parse_bound
from orchestrator.errors import UserError
from orchestrator.search_space import Parameter, Value, complete, grid, setting_names
from orchestrator.settings_faults import inconsistencies
from orchestrator.settings_sentences import sentence
from orchestrator.yaml_source import Location, YamlSource, plain, read_yaml
from trainables.config import TrialConfig
from trainables.reports import METRICS, SELECTED_BY, Direction

SamplerKind = Literal["tpe", "nsga2", "nsga3", "gp", "qmc", "random", "grid", "list"]
StoppingKind = Literal["none", "pareto", "asha"]
EmbeddingsOf = Literal["front", "all", "none"]
EvaluatedPoints = Literal["front", "best", "none"]
ConfirmedPoints = Literal["front"]
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(s|m|h|d)\s*")
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


class StallSettings(_Settings):
    """The search ends when the hypervolume no longer grows.

    Attributes:
        trials: so many trials have ended since
        growth: it was smaller by more than this share of itself.
    """

    trials: int = Field(ge=1)
    growth: float = Field(default=0.01, ge=0)


class SearchSettings(_Settings):
    """Who proposes trials, and the budgets: what is used up first ends the search.

    Attributes:
        sampler: grid and list end by themselves, too; list tries `first_trials` alone.
        trials: that are proposed.
        time_budget: from the first trial on, the final evaluation not counted.
        epochs: of all trials' main phases together.
        stall: None to go on whether the hypervolume grows or not.
        seed: of the proposals.
    """

    sampler: SamplerKind = "tpe"
    trials: int = Field(default=64, ge=1)
    time_budget: Duration = None
    epochs: int | None = Field(default=None, ge=1)
    stall: StallSettings | None = None
    seed: int = Field(default=42, ge=0, lt=2**32)


def parse_names(value: Any) -> Any:
    """A list of names, where one may be given by itself and null is none."""
    return [value] if isinstance(value, str) else [] if value is None else value


class EarlyStoppingSettings(_Settings):
    """Which trials are stopped before their last epoch: asynchronous successive halving.

    Attributes:
        kind: none; pareto compares trials by all objectives, asha by one metric.
        grace_epochs: the first rung, before which no trial is stopped.
        reduction_factor: between a rung's epochs and the next one's; at each, the best 1 / factor go on.
        max_rung_size: the newest trials of a rung that a newcomer is compared with.
        stratify_by: the settings whose values divide trials into groups that are not compared.
        metric: asha's; the first objective where left out.
    """

    kind: StoppingKind = "none"
    grace_epochs: int = Field(default=10, ge=1)
    reduction_factor: float = Field(default=3.0, ge=2)
    max_rung_size: int = Field(default=256, ge=2)
    stratify_by: Annotated[list[str], BeforeValidator(parse_names)] = []
    metric: str | None = None


class ResourceSettings(_Settings):
    """What one trial runs on.

    Attributes:
        workers: 0 runs each trial in a warm process; N starts a group of N workers for each trial.
        cpus: CPU cores a worker.
        gpus: GPUs a worker; a fraction lets trials share a GPU (workers: 0 only).
        max_concurrent: trials at a time; as many as the cluster holds where left out. A cluster that
            grows by itself is asked for room for so many.
        wait_for_nodes: how long the start waits for nodes that a trial fits on; None refuses at once.
    """

    workers: int = Field(default=0, ge=0)
    cpus: int = Field(default=1, ge=1)
    gpus: float = Field(default=0, ge=0)
    max_concurrent: int | None = Field(default=None, ge=1)
    wait_for_nodes: Duration = None


class EvaluationSettings(_Settings):
    """The final evaluation on the test set, after the search.

    Attributes:
        points: whose: the front's, also each trial's best in the first objective, none.
        cpus: CPU cores an evaluation; as a trial's where left out.
        gpus: GPUs an evaluation; as a trial's, at most one, where left out.
        timeout: an evaluation without a result for so long hangs, and is killed and retried. None waits
            for ever.
    """

    points: EvaluatedPoints = "front"
    cpus: int | None = Field(default=None, ge=1)
    gpus: float | None = Field(default=None, ge=0, le=1)
    timeout: Duration = None


class ConfirmSettings(_Settings):
    """After the search, and without its budgets, configurations are trained again under further seeds.

    Attributes:
        seeds: so many for each configuration, those after its own.
        of: whose: those of the trials with a point on the front.
    """

    seeds: int = Field(ge=1)
    of: ConfirmedPoints = "front"


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
    """A path that a folder can have, or the URL of a place in a store."""
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError(
            f"storage is the path of a folder or a URL such as s3://BUCKET/PREFIX, got {value!r}"
        )
    return value.removeprefix("file://")


class SweepSettings(_Settings):
    """One sweep, whole.

    Attributes:
        storage: the folder that the sweep's own folder is made in, a path or any URL of fsspec; all
            nodes share it.
        checkpoint_every: between two checkpoints of a running trial; so much of it, and the epoch that
            it was in, is trained again where it is killed. None writes none.
        max_retries: of a trial or a final evaluation whose process or node dies, or whose storage is
            away; a trial goes on from its checkpoint. The loss of a preempted node does not count.
        trial_timeout: a trial without a report for so long hangs, and is killed and retried. None waits
            for ever.
    """

    name: Name
    trial: TrialConfig = TrialConfig()
    search_space: dict[str, Parameter]
    first_trials: list[dict[str, Value]] = []
    objectives: dict[str, Direction] = Field(
        default_factory=lambda data: {SELECTED_BY[data["trial"].task]: "max", "d_eff": "min"}
    )
    reference_point: dict[str, float | str] = {}
    constraints: Annotated[list[str], BeforeValidator(parse_names)] = []
    pick: str | None = "knee"
    search: SearchSettings = SearchSettings()
    early_stopping: EarlyStoppingSettings = EarlyStoppingSettings()
    resources: ResourceSettings = ResourceSettings()
    confirm: ConfirmSettings | None = None
    evaluation: EvaluationSettings = EvaluationSettings()
    tracking: TrackingSettings = TrackingSettings()
    storage: Annotated[str, BeforeValidator(parse_storage)] = "runs"
    checkpoint_every: Duration = 60.0
    max_retries: int = Field(default=3, ge=0)
    trial_timeout: Duration = None

    @property
    def experiment(self) -> str:
        return self.tracking.experiment or self.name

    @property
    def num_trials(self) -> int:
        """Trials of the whole search: its budget, or fewer where a grid or a list ends before."""
        if self.search.sampler not in ("grid", "list"):
            return self.search.trials
        return sum(1 for _ in self.planned_trials())

    def planned_trials(self) -> Iterator[dict[str, Value]]:
        """What is known of the search before it starts, as far as its budget of trials: the first
        trials, and of a grid the points that are not among them.
        """
        first = [complete(self.search_space, self.trial, given) for given in self.first_trials]

        def all_trials() -> Iterator[dict[str, Value]]:
            yield from first
            if self.search.sampler == "grid":
                yield from (values for values in grid(self.search_space) if values not in first)

        return islice(all_trials(), self.search.trials)

    @property
    def evaluation_resources(self) -> ResourceSettings:
        """What one final evaluation runs on."""
        given, trial = self.evaluation, self.resources
        cpus = trial.cpus if given.cpus is None else given.cpus
        gpus = min(trial.gpus, 1) if given.gpus is None else given.gpus
        return ResourceSettings(workers=0, cpus=cpus, gpus=gpus, max_concurrent=trial.max_concurrent)

    def reference(self) -> dict[str, float | Expression]:
        """The hypervolume's reference: per objective the YAML's value, else the worst there can be."""
        return {name: self._worst(name) for name in self.objectives}

    def _worst(self, objective: str) -> float | Expression:
        given = self.reference_point.get(objective)
        if isinstance(given, str):
            return parse_bound(given, objective)
        worst = METRICS[objective].worst if given is None else given
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
    if faults := inconsistencies(settings):
        raise UserError("\n".join(f"{source.where(place)}: {text}" for place, text in faults))
    return settings


def check_override(override: str) -> None:
    """Refuses a `--set` that no sweep's settings take, whatever its file says.

    Raises:
        UserError: its key is none, or its value is not one of that key.
    """
    source = YamlSource(Path(), CommentedMap())
    source.set(override)
    written = list(source.overrides)[-1]
    try:
        SweepSettings.model_validate(plain(source.data))
    except ValidationError as error:
        if faults := _explain(source, error, written):
            raise UserError("\n".join(faults)) from None


def locate(path: Path, overrides: Sequence[str], location: Location) -> str:
    """The place of a setting for a message: `file.yaml:12: `, or the `--set` that wrote it.

    Empty where the file does not name the setting.
    """
    source = read_yaml(path)
    for override in overrides:
        source.set(override)
    return f"{source.where(location)}: " if source.names(location) else ""


def _explain(source: YamlSource, error: ValidationError, below: Location = ()) -> list[str]:
    """One line an error of `below` and what is in it, without pydantic's own vocabulary."""
    lines: list[str] = []
    for item in error.errors():
        if item["type"] == "default_factory_not_called":  # what it waits for is told itself
            continue
        location = [part for part in item["loc"] if part != "[key]"]
        if location[: len(below)] != list(below):
            continue
        dotted = ".".join(map(str, location))
        known = _known_keys(location[:-1]) if item["type"] == "extra_forbidden" else ()
        lines.append(f"{source.where(location)}: {sentence(item, location, dotted, known)}")
    return list(dict.fromkeys(lines))


def _known_keys(location: Location) -> list[str]:
    model: Any = SweepSettings
    for part in location:
        if model is SweepSettings and part == "search_space":
            model = dict
        elif model is dict:
            model = Parameter
        else:
            annotation = model.model_fields[str(part)].annotation
            # A group that may be left out is a union with None.
            model = next((kind for kind in get_args(annotation) if kind is not NoneType), annotation)
    return list(model.model_fields) if model is not dict else setting_names()
