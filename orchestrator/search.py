"""Our Optuna ask/tell as a `ray.tune` Searcher: Tune asks it for the next trial's configuration.

Outcomes do not come back this way: they are events (see `orchestrator.tune_events`), and
`ProposalListener` tells the study of them after the ledger has them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from orchestrator.events import Event, TrialEnded, TrialProposed
from orchestrator.proposals import Proposals
from orchestrator.record import SweepRecord
from orchestrator.search_space import to_trial_config
from orchestrator.settings import SweepSettings
from trainables.ray_train import CONFIG_KEY, NAME_KEY


class ProposalSearcher(Searcher):
    """Proposes trials while fewer than `max_concurrent` are live and the budget lasts."""

    def __init__(
        self,
        settings: SweepSettings,
        record: SweepRecord,
        proposals: Proposals,
        emit: Callable[[Event], None],
        max_concurrent: int,
    ) -> None:
        super().__init__()
        self._settings = settings
        self._record = record
        self._proposals = proposals
        self._emit = emit
        self._max_concurrent = max_concurrent

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        if self._record.count("pending", "running") >= self._max_concurrent:
            return None
        number, values = self._proposals.ask()
        name = trial_name(number)
        config = to_trial_config(self._settings.trial, values).model_dump()
        self._emit(TrialProposed(name, number, values, config, time.time()))
        return {NAME_KEY: name, CONFIG_KEY: config}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing: see `ProposalListener`."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune's own snapshots are not used, the ledger is the one truth."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing: see `__getstate__`."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see `__getstate__`."""


def trial_name(number: int) -> str:
    """The name of a sweep's trial, also its MLflow run name and its folder's."""
    return f"trial-{number:04d}"


class ProposalListener:
    """Tells the study how trials ended: values of its representative point, or failed."""

    def __init__(self, proposals: Proposals) -> None:
        self._proposals = proposals

    def __call__(self, event: Event, record: SweepRecord) -> None:
        if not isinstance(event, TrialEnded):
            return
        trial = record.trials[event.trial]
        point = record.representative(trial)
        if event.status == "failed" or point is None:
            self._proposals.tell_failed(trial.number)
            return
        values = [point.metrics[name] for name in record.objectives]
        assert all(math.isfinite(value) for value in values)
        self._proposals.tell(trial.number, values)
