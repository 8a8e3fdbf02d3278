"""The sweep's points as a table: what pages are drawn from and what `pareto_front.csv` holds. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd

from orchestrator.confirmation import Confirmation, confirmations, is_confirmed_evenly
from orchestrator.record import SweepRecord
from trainables.facts import DATASET_FACTS
from trainables.reports import Direction
from trainables.sentence_sources import name_of_scored_pairs

NUM_SEEDS = "num_seeds"
FRONT_PROBABILITY = "front_probability"


@dataclass(frozen=True)
class FrontTable:
    """Every point of a sweep.

    Attributes:
        title: the sweep's name.
        objectives: metric to direction, in the order of the axes.
        points: one row a (trial, epoch), the front's first, along the first objective. Columns:
            `trial`, `epoch`, `source` (where an imported trial is from; else empty), `on_front`,
            `is_picked`, `is_feasible`, `status`, a column each metric (off the front the objectives
            alone), and `param.NAME` each parameter (missing where it does not exist). Where points
            of the front are confirmed under further seeds also, of each objective, `NAME_mean` and
            `NAME_std`, and `num_seeds` and `front_probability` (missing where a point is not).
        constraints: as they are written.
        pick: the rule that names the picked point; empty where there is none.
        scored_on: of pairs of sentences, what those are called that all trials are validated on; empty
            where that is not known, and of images.
    """

    title: str
    objectives: dict[str, Direction]
    points: pd.DataFrame
    constraints: tuple[str, ...] = ()
    pick: str = ""
    scored_on: str = ""

    @property
    def front(self) -> pd.DataFrame:
        return self.points.loc[self.points["on_front"]]

    def with_run_ids(self, run_ids: Mapping[str, str]) -> FrontTable:
        """The same table with a column `run_id`."""
        points = self.points.assign(run_id=[run_ids.get(trial) for trial in self.points["trial"]])
        return replace(self, points=points)


def front_table(title: str, record: SweepRecord) -> FrontTable:
    """The table of a sweep as it is now."""
    front = {(point.trial, point.epoch) for point in record.front}
    picked = record.front.picked and (record.front.picked.trial, record.front.picked.epoch)
    confirmed = confirmations(record)
    is_whole = is_confirmed_evenly(record)
    names = list(record.front.objectives)
    rows = [
        {
            "trial": point.trial,
            "epoch": point.epoch,
            "source": trial.source,
            "on_front": (point.trial, point.epoch) in front,
            "is_picked": (point.trial, point.epoch) == picked,
            "is_feasible": record.front.violation(point.metrics) == 0,
            "status": trial.status,
            **(
                point.metrics
                if (point.trial, point.epoch) in front
                else {n: point.metrics[n] for n in names}
            ),
            **record.evaluations.get((trial.name, point.epoch), {}),
            **confirmed_values(confirmed.get((trial.name, point.epoch)), with_probability=is_whole),
            **{f"param.{name}": value for name, value in trial.parameters.items()},
        }
        for trial in record.counted_trials
        for point in trial.points
    ]
    flags = ("on_front", "is_picked", "is_feasible")
    columns = ["trial", "epoch", "source", *flags, "status", *record.front.objectives]
    points = pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)
    points = points.astype(dict.fromkeys(flags, bool))
    # Whole numbers stay whole where some trials lack them.
    sparse = [name for name in points.columns if str(name).startswith("param.") or name == NUM_SEEDS]
    points = points.astype({name: points[name].convert_dtypes().dtype for name in sparse})
    first = next(iter(record.front.objectives))
    points = points.sort_values(
        ["on_front", first, "trial", "epoch"],
        ascending=[False, record.front.objectives[first] == "min", True, True],
        ignore_index=True,
    )
    constraints = tuple(record.front.constraints.texts())
    return FrontTable(
        title,
        dict(record.front.objectives),
        points,
        constraints,
        record.front.pick,
        _scored_on(record),
    )


def _scored_on(record: SweepRecord) -> str:
    configs = [trial.config for trial in record.counted_trials]
    # A sweep of another version may be of a dataset that is not known here.
    known = {str(name): facts.task for name, facts in DATASET_FACTS.items()}
    tasks = {known.get(config["dataset"]) for config in configs}
    if tasks != {"similarity"}:
        return ""
    names = {name_of_scored_pairs(config["data"]["scored_pairs"]) for config in configs}
    return names.pop() if len(names) == 1 else ""


def confirmed_values(
    confirmation: Confirmation | None, *, with_probability: bool = True
) -> dict[str, float]:
    """A confirmation as columns; empty where there is none."""
    if confirmation is None:
        return {}
    values: dict[str, float] = {}
    for name, mean in confirmation.means.items():
        values |= {f"{name}_mean": mean, f"{name}_std": confirmation.deviations[name]}
    probability = confirmation.front_probability if with_probability else math.nan
    return {**values, NUM_SEEDS: confirmation.num_seeds, FRONT_PROBABILITY: probability}
