"""What a sweep keeps on disk: little while it runs, and whole when the disk is full."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from resumable_sweeps import RESUMABLE, DiskWatch, is_dead, next_report_s, num_lines, stories
from sweep_runs import SweepRun, run_sweep, wait_for

from trainables.snapshots import read_snapshot

pytestmark = pytest.mark.slow

NO_EVALUATION = ("--set", "evaluation.points=none")


def test_snapshots_on_disk_are_the_fronts_and_those_that_are_being_reported(
    watched: tuple[SweepRun, DiskWatch],
) -> None:
    sweep, watch = watched
    assert watch.unwanted == set()
    assert len(watch.num_snapshots) > 50
    # One trial at a time; its worker can be one report ahead of the driver.
    assert all(stored <= front + 1 for stored, front in watch.num_snapshots)
    at_the_end = {key for trial in sweep.record.trials for key in sweep.paths.stored_snapshots(trial)}
    assert at_the_end == {(p.trial, p.epoch) for p in sweep.record.front}
    assert len(watch.seen) > len(at_the_end) + 3, "too little was removed for this to show anything"


def test_a_running_trial_has_one_checkpoint_and_an_ended_one_none(
    watched: tuple[SweepRun, DiskWatch],
) -> None:
    sweep, watch = watched
    assert all(stored <= running for stored, running in watch.num_checkpoints)
    assert any(stored for stored, _ in watch.num_checkpoints)
    assert list(sweep.paths.root.glob("checkpoints/*")) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A storage of 48 MiB."""
    storage = tmp_path / "runs"
    storage.mkdir()
    if fault := mount_disk(storage):
        pytest.skip(f"needs a small disk, and this user may not mount one: {fault}")
    yield storage
    subprocess.run(["umount", "--lazy", str(storage)], check=True)  # with the disks mounted in it


def mount_disk(folder: Path) -> str:
    """Puts a disk of 48 MiB in the place of a folder; what is wrong, if it may not be."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(folder)]
    return subprocess.run(mount, capture_output=True, text=True, check=False).stderr.strip()


def fill(disk: Path, num_free: int) -> Path:
    """Leaves so many bytes free; returns what takes the rest."""
    ballast = disk / "ballast"
    usage = os.statvfs(disk)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, usage.f_bavail * usage.f_frsize - num_free)
    return ballast


def require_whole(sweep: SweepRun) -> None:
    """All that is stored can be read, and nothing half-written is left."""
    for folder in sweep.paths.root.glob("snapshots/*/*"):
        read_snapshot(folder)
    hidden = [path for path in sweep.paths.root.glob("**/.*") if sweep.paths.tune not in path.parents]
    assert hidden == []
    assert "Traceback" not in sweep.stdout + sweep.stderr


def test_a_full_disk_fails_the_trial_and_ends_the_sweep_with_what_it_has(
    tmp_path: Path, small_disk: Path
) -> None:
    def fill_up(driver: psutil.Process) -> None:
        ledger = small_disk / "full" / "ledger.jsonl"
        wait_for(lambda: num_lines(ledger, "TrialEnded") or is_dead(driver))
        fill(small_disk, 200 * 1024)  # enough for events, too little for weights

    rare = ("--set", "checkpoint_every=1h")
    sweep = run_sweep(tmp_path, "full", *NO_EVALUATION, *rare, file=RESUMABLE, while_running=fill_up)
    assert sweep.returncode == 1, sweep.stderr
    (failed,) = [trial for trial in sweep.record.trials.values() if trial.status == "failed"]
    assert failed.reason.startswith(f"DiskFullError: {small_disk}/full/snapshots/{failed.name}/epoch-")
    assert " cannot be written: its disk is full, " in failed.reason
    assert f"{failed.name} found the disk full; make room, then resume the sweep" in sweep.record.reason
    assert failed.reason.split(":")[0] in sweep.stdout
    assert sweep.children[failed.name].data.tags["reason"] == failed.reason
    assert sweep.record.status == "failed"
    assert sweep.record.front
    assert {key for trial in sweep.record.trials for key in sweep.paths.stored_snapshots(trial)} == {
        (p.trial, p.epoch) for p in sweep.record.front
    }
    require_whole(sweep)


def test_a_sweep_that_no_disk_takes_an_event_of_goes_on_once_there_is_room(
    tmp_path: Path, small_disk: Path, uninterrupted: SweepRun
) -> None:
    ballast: list[Path] = []

    def fill_up(driver: psutil.Process) -> None:
        ledger = small_disk / "full" / "ledger.jsonl"
        wait_for(lambda: num_lines(ledger, "SweepStarted") or is_dead(driver))
        # What trials write has room, so they go on until the ledger has none: its file's last block may
        # take the end of a trial that fails first.
        for name in ("snapshots", "checkpoints", "traces"):
            (small_disk / "full" / name).mkdir(exist_ok=True)
            assert not mount_disk(small_disk / "full" / name)
        wait_for(lambda: num_lines(ledger, "TrialReported") >= 5 or is_dead(driver))
        ballast.append(fill(small_disk, 0))

    budget = (*NO_EVALUATION, "--trials", "3")
    full = run_sweep(tmp_path, "full", *budget, file=RESUMABLE, while_running=fill_up)
    assert full.returncode == 1, full.stderr
    said = " ".join(full.stdout.split())
    assert f"storage: {small_disk}/full cannot be written: its disk is full, 0 B free" in said
    assert "go on with --resume full" in said
    require_whole(full)
    refused = run_sweep(tmp_path, "full", *budget, file=RESUMABLE, resumed=True)
    assert refused.returncode == 2
    assert f"storage: {small_disk}/full cannot be written: its disk is full" in refused.stderr
    ballast[0].unlink()
    begun = time.time()
    resumed = run_sweep(tmp_path, "full", *budget, file=RESUMABLE, resumed=True)
    assert resumed.returncode == 0, resumed.stderr
    print(f"with room again: the next report after {next_report_s(resumed, begun):.1f} s")
    require_whole(resumed)
    expected = stories(uninterrupted)
    assert stories(resumed) == {name: expected[name] for name in resumed.record.trials}
    assert len(resumed.record.trials) == 3
