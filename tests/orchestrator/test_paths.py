from __future__ import annotations

from pathlib import Path

import pytest
from stores import URL, MemoryStore

from orchestrator.paths import SweepPaths
from trainables.checkpoint import CheckpointFile
from trainables.whole_folder import whole_folder


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
    files = [
        paths.ledger,
        paths.settings,
        paths.log,
        paths.tune,
        Path(paths.snapshot("t", 1)).parents[1],
    ]
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


def test_a_url_holds_what_workers_write_and_a_folder_of_this_machine_the_drivers_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONOCON_CACHE", str(tmp_path))
    paths = SweepPaths.of("s3://bucket/prefix/", "s")
    assert paths.place == paths.url == "s3://bucket/prefix/s"
    assert paths.snapshot("t", 5) == "s3://bucket/prefix/s/snapshots/t/epoch-0005"
    assert paths.checkpoint("t") == "s3://bucket/prefix/s/checkpoints/t/state.pt"
    assert all(str(place).startswith(f"{paths.url}/") for place in paths.written_for("t"))
    files = [paths.ledger, paths.settings, paths.log, paths.tune, paths.lease]
    assert {file.parent for file in files} == {paths.root}
    assert paths.root.parent.parent == tmp_path / "sweeps" and paths.name == "s"
    assert paths == SweepPaths.at("s3://bucket/prefix/s/")


def test_storages_of_like_names_have_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONOCON_CACHE", str(tmp_path))
    urls = ["s3://bucket/a-b", "s3://bucket/a/b", "gs://bucket/a-b", "s3://bucket-a/b"]
    assert len({SweepPaths.of(url, "s").root for url in urls}) == len(urls)


@pytest.mark.parametrize("url", ["", f"{URL}/s"])
def test_what_is_stored_is_told_by_kind_and_trial(url: str, tmp_path: Path, memory: MemoryStore) -> None:
    paths = SweepPaths(tmp_path, url)
    assert paths.stored() == {}
    with whole_folder(paths.snapshot("trial-0000", 5)) as folder:
        (folder / "snapshot.json").touch()
    CheckpointFile(paths.checkpoint("trial-0001"), 0.0).write({})
    assert paths.stored() == {
        ("snapshots", "trial-0000"): {"epoch-0005"},
        ("checkpoints", "trial-0001"): {"state.pt"},
    }
    assert paths.stored_snapshots("trial-0000") == {("trial-0000", 5)}
    assert paths.stored_snapshots("trial-0001") == set()
    assert paths.torn() == []
