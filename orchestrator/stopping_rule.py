"""Which rule of early stopping a sweep has, and what of a report it looks at. Pure: the same reports in
the same order give the same decisions, so a resume rebuilds the rungs from the ledger.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

from orchestrator.pareto import minimised
from orchestrator.record import SweepRecord
from orchestrator.settings import EarlyStoppingSettings, SweepSettings
from orchestrator.successive_halving import RungPoint, SuccessiveHalving
from orchestrator.trials import Trial
from trainables.reports import METRICS, Direction


class StoppingRule:
    """The rule of one sweep, with what it remembers of the reports so far."""

    def __init__(self, settings: SweepSettings) -> None:
        self._settings: EarlyStoppingSettings = settings.early_stopping
        self._objectives = stopping_objectives(settings)
        self._halving = SuccessiveHalving(
            self._settings.grace_epochs,
            self._settings.reduction_factor,
            self._settings.max_rung_size,
        )

    def observe(self, name: str, report: Mapping[str, Any], record: SweepRecord) -> str | None:
        """Takes in a report, before the record does.

        Returns:
            Why its trial is stopped; None where it goes on.
        """
        trial, epoch, metrics = record.trials[name], int(report["epoch"]), report["metrics"]
        if self._settings.kind == "none" or epoch <= trial.last_epoch:
            return None
        values = minimised(metrics, self._objectives)
        if not all(math.isfinite(value) for value in values):
            return None
        self._halving.violation = record.front.violation
        stop = self._halving.observe(name, self._stratum(trial), epoch, RungPoint(values, metrics))
        is_needed = epoch >= trial.config["epochs"] or record.is_baseline(name)
        return None if stop is None or is_needed else stop.reason

    def _stratum(self, trial: Trial) -> Hashable:
        return tuple(value_of(trial.config, name) for name in self._settings.stratify_by)


def stopping_objectives(settings: SweepSettings) -> dict[str, Direction]:
    """What trials are compared by: the sweep's objectives, or the one metric of ASHA."""
    rule = settings.early_stopping
    if rule.kind != "asha":
        return dict(settings.objectives)
    metric = rule.metric or next(iter(settings.objectives))
    given = settings.objectives.get(metric)
    return {metric: given or METRICS[metric].direction}


def value_of(config: Mapping[str, Any], name: str) -> Any:
    """The setting of a trial's configuration at a dotted name."""
    value: Any = config
    for part in name.split("."):
        value = value[part]
    return value
