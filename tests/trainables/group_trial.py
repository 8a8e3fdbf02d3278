"""What every worker of a real group does in the tests of trainings that others describe."""

from __future__ import annotations

import os

from short_trials import fit_reports

from trainables.config import TrialConfig
from trainables.distributed import WorkerGroup
from trainables.reports import EpochReport


def fit_group_trial(group: WorkerGroup) -> list[EpochReport]:
    """The reports of the training that the environment variable GROUP_TRIAL describes."""
    return fit_reports(TrialConfig.model_validate_json(os.environ["GROUP_TRIAL"]), group)
