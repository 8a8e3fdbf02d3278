"""The page of a point whose sweep is in MLflow. Called by `dashboards.report` and `dashboards.serve`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from dashboards.page import Page
from dashboards.point_files import read_point_files
from dashboards.sweep_store import SweepStore
from dashboards.sweep_story import SweepStory
from dashboards.trial_page import point_page
from orchestrator.mlflow_values import TRACES, evaluation_folder


def tracked_point_page(store: SweepStore, story: SweepStory, trial: str, epoch: int) -> Page:
    """The page of a point with a final evaluation, whose files are downloaded for the time of the call.

    Raises:
        UserError: MLflow does not answer.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = store.point_folder(story.record.run_ids[trial], epoch, Path(name))
        files = read_point_files(folder / evaluation_folder(epoch), folder / TRACES)
        return point_page(story, trial, epoch, files)
