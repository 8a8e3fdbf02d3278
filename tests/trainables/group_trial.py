"""What every worker of a real group does in the tests of trainings that others describe."""

from __future__ import annotations

from short_trials import fit_reports

from trainables.config import TrialConfig
from trainables.distributed import WorkerGroup
from trainables.reports import EpochReport


def fit_group_trial(group: WorkerGroup, settings: str) -> list[EpochReport]:
    """The reports of a training.

    Args:
        group: that trains.
        settings: of the trial, as JSON.
    """
    return fit_reports(TrialConfig.model_validate_json(settings), group)
