from __future__ import annotations

from collections.abc import Iterator

import pytest
from sweep_runs import EVALUATED, SweepRun, ray_processes, run_sweep, wait_for


@pytest.fixture
def no_ray_left() -> Iterator[None]:
    """Fails the test if it leaves a Ray process behind."""
    before = ray_processes()
    yield
    wait_for(lambda: not ray_processes() - before, timeout_s=20)


@pytest.fixture(scope="session")
def tiny_sweep(tmp_path_factory: pytest.TempPathFactory) -> SweepRun:
    """One finished sweep that many tests look at."""
    return run_sweep(tmp_path_factory.mktemp("tiny"), "tiny", *EVALUATED)
