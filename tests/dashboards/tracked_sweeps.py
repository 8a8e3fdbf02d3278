"""Hand-made sweeps as `orchestrator.tracking` writes them: in memory, and in a store of MLflow's."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from orchestrator.mlflow_runs import trial_params
from orchestrator.trials import Trial
from trainables.config import TrialConfig
from trainables.facts import DATASET_FACTS
from trainables.reports import SELECTED_BY, TRUNCATION, UNTOUCHED

DATABASE = "mlflow.db"
TRUNCATED = pd.DataFrame(
    [
        {
            "components": components,
            "knn_accuracy": 0.77,
            "recall_dot_at_1": 0.47,
            "recall_dot_at_5": 0.83,
            "recall_cosine_at_1": 0.76,
            "recall_cosine_at_5": 0.82,
            "recall_euclidean_at_1": 0.75,
            "recall_euclidean_at_5": 0.81,
            "reconstruction_error": 0.001 * components,
            "reconstruction_error_relative": 0.01,
        }
        for components in (128, 64, 16, 8)
    ]
)
TEST_METRICS = {
    "knn_accuracy": 0.775,
    "recall_at_1": 0.765,
    "recall_at_5": 0.825,
    "d_eff": 120.0,
    "reconstruction_error": 0.0064,
}
SENTENCE_TEST_METRICS = {
    "spearman": 0.815,
    "d_eff": 100.0,
    "reconstruction_error": 0.0072,
    "untouched_spearman": 0.8203,
    "untouched_pca_spearman": 0.8101,
}


def cut_pairs(spearman: float, *more: int) -> pd.DataFrame:
    """A table of truncations: Spearman falls by 0.01 a size, ranked by distance it is 0.005 lower."""
    return pd.DataFrame(
        [
            {
                "components": components,
                "spearman_cosine": spearman - 0.01 * place,
                "spearman_euclidean": spearman - 0.01 * place - 0.005,
                "reconstruction_error": 0.0001 * components,
                "reconstruction_error_relative": 0.01,
            }
            for place, components in enumerate((*more, 128, 64, 16, 8))
        ]
    )


def sentence_params(head: str = "none", seed: int = 42, **settings: Any) -> dict[str, str]:
    """The same as `params` of a training on pairs of sentences; the paper's where nothing is said."""
    return params(head, seed, **{"preset": "paper_snli", **settings})


def params(head: str = "none", seed: int = 42, **settings: Any) -> dict[str, str]:
    """What MLflow holds of a trial's settings; the paper's CIFAR-100 run where nothing else is said.

    Settings are named with two underscores for a dot: `head__depth=2`.
    """
    given: dict[str, Any] = {"preset": "paper_cifar100", "seed": seed, "head": {"kind": head}}
    for name, value in settings.items():
        group, _, inner = name.partition("__")
        if inner:
            given.setdefault(group, {})[inner] = value
        else:
            given[group] = value
    config = TrialConfig.model_validate(given).model_dump(mode="json")
    return {n: str(v) for n, v in trial_params(Trial("any", 0, {}, config)).items()}


@dataclass
class TrackedTrial:
    """What a trial leaves in MLflow.

    Attributes:
        validation: epoch to the validation metric that an epoch is selected by.
        test: epoch to test metrics, without their `test_`.
        truncation: of each evaluated epoch; None for none.
        untouched: the same of the untouched encoder.
        confirms: the trial that it repeats under a further seed, if any.
    """

    params: dict[str, str]
    validation: dict[int, float] = field(default_factory=lambda: {5: 0.78})
    test: dict[int, dict[str, float]] = field(default_factory=lambda: {5: TEST_METRICS})
    truncation: pd.DataFrame | None = field(default_factory=lambda: TRUNCATED)
    status: str = "completed"
    confirms: str = ""
    untouched: pd.DataFrame | None = None

    @property
    def selected_by(self) -> str:
        return {name: SELECTED_BY[facts.task] for name, facts in DATASET_FACTS.items()}[
            self.params["dataset"]
        ]


def tracked_pairs(
    head: str = "none", seed: int = 42, spearman: float = 0.815, **settings: Any
) -> TrackedTrial:
    """A trial on pairs of sentences with all of its evaluation."""
    test = {**SENTENCE_TEST_METRICS, "spearman": spearman}
    untouched, trained = cut_pairs(0.80, 384, 100), cut_pairs(0.81, 100)
    given = sentence_params(head, seed, **settings)
    return TrackedTrial(given, {1: spearman + 0.05}, {1: test}, trained, untouched=untouched)


def track(
    folder: Path,
    name: str,
    trials: Sequence[TrackedTrial],
    status: str = "completed",
    tags: Mapping[str, str] | None = None,
) -> str:
    """Writes a sweep into `folder`/mlflow.db and returns the parent's run id."""
    make_store(folder)
    client = MlflowClient(uri(folder))
    experiment = client.get_experiment_by_name("some")
    identity = (
        experiment.experiment_id
        if experiment
        else client.create_experiment("some", (folder / "mlartifacts").as_uri())
    )
    parent_tags = {"mlflow.source.name": "orchestrator.sweep", "sweep": name, "status": status}
    parent = client.create_run(identity, run_name=name, tags={**parent_tags, **(tags or {})}).info.run_id
    for number, trial in enumerate(trials):
        run_tags = {"mlflow.parentRunId": parent, "sweep": name, "status": trial.status}
        run_tags["trial"] = f"trial-{number:04d}"
        if trial.confirms:
            run_tags["confirms"] = trial.confirms
        run = client.create_run(identity, run_name=run_tags["trial"], tags=run_tags).info.run_id
        metrics = [
            Metric(trial.selected_by, value, 1, epoch) for epoch, value in trial.validation.items()
        ]
        for epoch, values in trial.test.items():
            metrics += [Metric(f"test_{metric}", value, 1, epoch) for metric, value in values.items()]
        client.log_batch(run, metrics=metrics, params=[Param(*item) for item in trial.params.items()])
        for file, table in ((TRUNCATION, trial.truncation), (UNTOUCHED, trial.untouched)):
            if table is not None:
                for epoch in trial.test:
                    _log_table(client, run, file, table, epoch)
    return parent


def _log_table(client: MlflowClient, run: str, file: str, table: pd.DataFrame, epoch: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        table.to_parquet(Path(place) / file, index=False)
        client.log_artifacts(run, place, f"evaluations/epoch-{epoch:04d}")


def make_store(folder: Path) -> None:
    """Puts an empty database into `folder` where there is none; MLflow takes seconds to make one."""
    if not (folder / DATABASE).exists():
        (folder / DATABASE).write_bytes(_empty_database())


@functools.cache
def _empty_database() -> bytes:
    with tempfile.TemporaryDirectory() as place:
        MlflowClient(uri(Path(place))).search_experiments()
        return (Path(place) / DATABASE).read_bytes()


def uri(folder: Path) -> str:
    return f"sqlite:///{folder}/{DATABASE}"
