from __future__ import annotations

from collections.abc import Iterator

import pytest
from resumable_sweeps import RESUMABLE, DiskWatch
from sweep_runs import EVALUATED, SweepRun, ray_processes, run_sweep, wait_for

from orchestrator.paths import SweepPaths


@pytest.fixture
def no_ray_left() -> Iterator[None]:
    """Fails the test if it leaves a Ray process behind."""
    before = ray_processes()
    yield
    wait_for(lambda: not ray_processes() - before, timeout_s=20)


@pytest.fixture(scope="session")
def tiny_sweep(tmp_path_factory: pytest.TempPathFactory) -> SweepRun:
    """One finished sweep that many tests look at."""
    return run_sweep(tmp_path_factory.mktemp("tiny"), "tiny", *EVALUATED, has_store=False)


@pytest.fixture(scope="session")
def watched(tmp_path_factory: pytest.TempPathFactory) -> tuple[SweepRun, DiskWatch]:
    """The resumable sweep, never killed, and what was on its disk meanwhile."""
    folder = tmp_path_factory.mktemp("whole")
    watch = DiskWatch(SweepPaths.of(f"{folder}/runs", "whole"))
    sweep = run_sweep(folder, "whole", file=RESUMABLE, while_running=watch)
    assert sweep.returncode == 0, sweep.stderr
    return sweep, watch


@pytest.fixture(scope="session")
def uninterrupted(watched: tuple[SweepRun, DiskWatch]) -> SweepRun:
    return watched[0]
