from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.paths import SweepPaths


def test_the_folder_is_absolute_below_the_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert SweepPaths.of("runs", "s").root == tmp_path / "runs" / "s"
    assert SweepPaths.of(str(tmp_path / "other"), "s").root == tmp_path / "other" / "s"


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert SweepPaths.of("~/runs", "s").root == tmp_path / "runs" / "s"


def test_every_file_lies_in_the_folder_under_a_name_of_its_own(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path)
    files = [paths.ledger, paths.settings, paths.log, paths.tune, paths.snapshot("t", 1).parents[1]]
    assert [file.parent for file in files] == [tmp_path] * 5
    assert len(set(files)) == 5


def test_snapshots_sort_by_trial_and_epoch(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path)
    keys = [("trial-0000", 5), ("trial-0000", 40), ("trial-0000", 200), ("trial-0001", 5)]
    folders = [str(paths.snapshot(trial, epoch)) for trial, epoch in keys]
    assert folders == sorted(set(folders))


def test_nothing_is_made_by_naming_it(tmp_path: Path) -> None:
    paths = SweepPaths.of(str(tmp_path), "s")
    paths.snapshot("trial-0000", 1)
    assert not paths.root.exists()
