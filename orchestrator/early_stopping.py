"""Early stopping as a `ray.tune` TrialScheduler: says after each report whether its trial goes on.

Decides only; what happens to the trial is written to the ledger by `orchestrator.tune_events` before
Tune acts on it. A trial that is stopped keeps its schedule: T_max is its configuration's.
"""

from __future__ import annotations

import json
from typing import Any

from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from orchestrator.record import SweepRecord
from orchestrator.stopping_rule import StoppingRule
from trainables.ray_train import NAME_KEY, REPORT_KEY


class EarlyStopping(FIFOScheduler):
    """Asks the rule at each report.

    Attributes:
        reasons: of the trials that it decided to stop.
    """

    def __init__(self, rule: StoppingRule, record: SweepRecord) -> None:
        super().__init__()
        self._rule = rule
        self._record = record
        self.reasons: dict[str, str] = {}

    def on_trial_result(self, tune_controller: Any, trial: TuneTrial, result: dict[str, Any]) -> str:
        name = trial.config[NAME_KEY]
        if REPORT_KEY not in result or name in self.reasons:
            return TrialScheduler.CONTINUE
        reason = self._rule.observe(name, json.loads(result[REPORT_KEY]), self._record)
        if reason is None:
            return TrialScheduler.CONTINUE
        self.reasons[name] = reason
        return TrialScheduler.STOP

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune's own snapshots are not used, the ledger is the one truth."""
        return {}
