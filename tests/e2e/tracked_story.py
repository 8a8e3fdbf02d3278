"""Whether MLflow alone tells the story of a sweep that was run."""

from __future__ import annotations

from story_facts import assert_same
from sweep_runs import SweepRun

from dashboards.sweep_store import SweepStore
from dashboards.sweep_story import SweepStory
from dashboards.tracked_sweep import TrackedSweep
from orchestrator.events import RunOpened


def assert_mlflow_tells_the_story(sweep: SweepRun) -> None:
    """That it is the story of the ledger, field by field."""
    tracked = TrackedSweep(SweepStore(f"sqlite:///{sweep.folder}/mlflow.db"), sweep.name)
    tracked.refresh()
    # When a run was opened is no part of the story, and its event is written by another thread.
    told = SweepStory(event for event in sweep.events if not isinstance(event, RunOpened))
    assert_same(tracked.story(), told)
    assert tracked.story().record.run_ids == sweep.record.run_ids
