from __future__ import annotations

import os
from pathlib import Path

import pytest
from sweep_events import settings_of, started

from orchestrator.errors import UserError
from orchestrator.ledger import Ledger
from orchestrator.paths import SweepPaths
from orchestrator.settings import load_settings
from orchestrator.sweep_folder import is_begun, make_folder, remove_folder, require_new, write_whole


@pytest.fixture
def paths(tmp_path: Path) -> SweepPaths:
    return SweepPaths.of(str(tmp_path / "runs"), "s")


def test_the_folder_holds_a_file_that_gives_the_settings_back(paths: SweepPaths) -> None:
    make_folder(settings_of(), paths)
    assert load_settings(paths.settings) == settings_of()
    assert [path.name for path in paths.root.iterdir()] == ["sweep.yaml"]


def test_a_name_is_taken_once_something_happened_under_it(paths: SweepPaths) -> None:
    make_folder(settings_of(), paths)
    assert not is_begun(paths)
    paths.ledger.touch()
    assert not is_begun(paths)
    require_new(paths)
    ledger = Ledger(paths.ledger)
    ledger.append(started("trial-0000"))
    ledger.close()
    assert is_begun(paths)
    for refuse in (lambda: require_new(paths), lambda: make_folder(settings_of(), paths)):
        with pytest.raises(UserError, match="choose another name, or go on with it by --resume"):
            refuse()


@pytest.mark.parametrize("leftover", ["", "sweep.yaml", ".sweep.yaml", "sweep.log"])
def test_what_a_driver_left_that_never_began_is_used_again(paths: SweepPaths, leftover: str) -> None:
    paths.root.mkdir(parents=True)
    if leftover:
        (paths.root / leftover).write_text("torn")
    require_new(paths)
    make_folder(settings_of(), paths)
    assert load_settings(paths.settings) == settings_of()


def test_a_folder_of_somebody_else_is_not_touched(paths: SweepPaths) -> None:
    paths.root.mkdir(parents=True)
    (paths.root / "thesis.tex").write_text("all of it")
    with pytest.raises(UserError, match="already holds a sweep"):
        require_new(paths)


def test_removing_leaves_other_sweeps(paths: SweepPaths) -> None:
    make_folder(settings_of(), paths)
    other = paths.root.with_name("other")
    other.mkdir()
    remove_folder(paths)
    assert list(other.parent.iterdir()) == [other]
    other.rmdir()
    make_folder(settings_of(), paths)
    remove_folder(paths)
    assert not paths.root.parent.exists()


def test_a_file_is_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_whole(tmp_path / "a", "before")
    monkeypatch.setattr(Path, "replace", lambda self, target: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        write_whole(tmp_path / "a", "after")
    assert (tmp_path / "a").read_text() == "before"
    assert os.listdir(tmp_path) == ["a"]  # noqa: PTH208
