"""The sweep's points as a table: what pages are drawn from and what `pareto_front.csv` holds. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd

from orchestrator.record import SweepRecord
from trainables.reports import Direction


@dataclass(frozen=True)
class FrontTable:
    """Every point of a sweep.

    Attributes:
        title: the sweep's name.
        objectives: metric to direction, in the order of the axes.
        points: one row a (trial, epoch), the front's first, along the first objective. Columns:
            `trial`, `epoch`, `source` (where an imported trial is from; else empty), `on_front`,
            `is_picked`, `is_feasible`, `status`, a column each metric, and `param.NAME` each parameter
            (missing where it does not exist).
        constraints: as they are written.
        pick: the rule that names the picked point; empty where there is none.
    """

    title: str
    objectives: dict[str, Direction]
    points: pd.DataFrame
    constraints: tuple[str, ...] = ()
    pick: str = ""

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
    picked = record.picked
    rows = [
        {
            "trial": point.trial,
            "epoch": point.epoch,
            "source": trial.source,
            "on_front": (point.trial, point.epoch) in front,
            "is_picked": point is picked,
            "is_feasible": record.violation(point.metrics) == 0,
            "status": trial.status,
            **point.metrics,
            **record.evaluations.get((trial.name, point.epoch), {}),
            **{f"param.{name}": value for name, value in trial.parameters.items()},
        }
        for trial in record.all_trials()
        for point in trial.points
    ]
    flags = ("on_front", "is_picked", "is_feasible")
    columns = ["trial", "epoch", "source", *flags, "status", *record.objectives]
    points = pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)
    points = points.astype(dict.fromkeys(flags, bool))
    # Whole numbers stay whole where some trials lack the parameter.
    params = [name for name in points.columns if str(name).startswith("param.")]
    points = points.astype({name: points[name].convert_dtypes().dtype for name in params})
    first = next(iter(record.objectives))
    points = points.sort_values(
        ["on_front", first, "trial", "epoch"],
        ascending=[False, record.objectives[first] == "min", True, True],
        ignore_index=True,
    )
    constraints = tuple(record.constraints.texts())
    return FrontTable(title, dict(record.objectives), points, constraints, record.pick)
