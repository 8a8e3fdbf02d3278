"""What cannot run is refused with one message, and nothing is left of it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from sweep_runs import REPOSITORY, TINY, command, ray_processes, run_sweep

pytestmark = pytest.mark.slow

# Ray is needed to know the cluster and to read data and weights; the others are refused before that.
REFUSALS = {
    "resources": (("--set", "resources.cpus=1000"), "1000 CPU"),
    "cluster": (("--address", "127.0.0.1:1"), "--address 127.0.0.1:1: no Ray cluster answers there"),
    "server": (("--set", "tracking.uri=http://127.0.0.1:9"), "no answer from http://127.0.0.1:9"),
    "path to nothing": (("--set", "trial.encoder_weights=absent.pt"), "absent.pt does not exist; name"),
    "weights": (("--set", "trial.encoder_weights=README.md"), "README.md holds no state dict"),
    "key": (("--set", "trial.epoch=1"), "did you mean 'epochs'?"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusal_is_one_message_and_leaves_nothing(case: str, tmp_path: Path, no_ray_left: None) -> None:
    arguments, message = REFUSALS[case]
    sweep = run_sweep(tmp_path, "refused", *arguments, has_store=False)
    assert sweep.returncode == 2
    assert message in sweep.stderr
    assert "Traceback" not in sweep.stderr + sweep.stdout
    assert list(tmp_path.iterdir()) == []


def test_taken_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs" / "taken" / "snapshots").mkdir(parents=True)
    sweep = run_sweep(tmp_path, "taken", has_store=False)
    assert sweep.returncode == 2
    assert "choose another name" in sweep.stderr


def test_unwritable_storage_is_refused(tmp_path: Path, no_ray_left: None) -> None:
    (tmp_path / "runs").write_text("a file where the storage folder should be")
    sweep = run_sweep(tmp_path, "refused", has_store=False)
    assert sweep.returncode == 2
    assert sweep.stderr.startswith("--set storage=")
    assert "is not a folder; set storage to one" in sweep.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_dry_run_shows_the_work_and_starts_nothing(tmp_path: Path) -> None:
    before = ray_processes()
    result = subprocess.run(
        command(tmp_path, "dry", TINY, "--dry-run"),
        cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=120,
        env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    assert "search_space:" in result.stdout
    assert "the first 4 of 4 trials" in result.stdout
    assert "at most 32 epochs, 160 steps, 10,240 items" in result.stdout
    assert list(tmp_path.iterdir()) == []
    assert ray_processes() == before
