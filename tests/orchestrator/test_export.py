from __future__ import annotations

import fcntl
from pathlib import Path

import optuna
import pytest
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sweep_events import settings_of
from test_optuna_study import HISTORY

from orchestrator.export import main
from orchestrator.ledger import encode
from orchestrator.optuna_study import describe
from orchestrator.paths import SweepPaths
from orchestrator.settings_text import to_yaml

SETTINGS = settings_of()


@pytest.fixture
def paths(tmp_path: Path) -> SweepPaths:
    """A sweep whose driver was killed while it wrote a line, and whose folder has a space."""
    paths = SweepPaths.of(str(tmp_path / "my runs"), "s")
    paths.root.mkdir(parents=True)
    paths.settings.write_text(to_yaml(SETTINGS))
    paths.ledger.write_bytes(b"".join(map(encode, HISTORY)) + b'12345678 {"event":"Tri')
    return paths


def export(paths: SweepPaths, *arguments: str) -> int:
    return main(["s", "--storage", str(paths.root.parent), *arguments])


def storage_of(file: Path) -> BaseStorage:
    if file.suffix == ".db":
        return RDBStorage(f"sqlite:///{file}")
    return JournalStorage(JournalFileBackend(str(file)))


@pytest.mark.parametrize("name", ["study.log", "study.journal", "study.db"])
def test_optuna_loads_the_study_that_was_described(paths: SweepPaths, name: str) -> None:
    file = paths.root / name
    assert export(paths, "--to", str(file)) == 0
    storage = storage_of(file)
    study = optuna.load_study(study_name="s", storage=storage)
    expected = describe("s", SETTINGS, HISTORY)
    assert study.directions == expected.directions
    assert study.metric_names == expected.metric_names
    assert study.user_attrs == expected.user_attrs
    found = study.trials
    for trial in found:
        trial._trial_id = trial.number  # a database counts from 1
    assert found == expected.trials
    assert {path.name for path in paths.root.iterdir()} == {"ledger.jsonl", "sweep.yaml", name}
    if isinstance(storage, RDBStorage):
        storage.remove_session()
        storage.engine.dispose()


def test_a_ledger_that_a_driver_holds_is_read_and_left_alone(paths: SweepPaths) -> None:
    before = paths.ledger.read_bytes()
    with paths.ledger.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert export(paths) == 0
        with paths.ledger.open("ab") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert paths.ledger.read_bytes() == before


def test_the_export_in_the_sweeps_folder_is_replaced(
    paths: SweepPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(paths) == 0
    with paths.ledger.open("rb") as ledger:
        lines = ledger.readlines()
    paths.ledger.write_bytes(b"".join(lines[:4]))
    assert export(paths) == 0
    study = optuna.load_study(study_name=None, storage=storage_of(paths.study))
    assert len(study.trials) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{paths.study}: Optuna study 's', trials: 5",
        f"see it: optuna-dashboard '{paths.study}'",
        f"{paths.study}: Optuna study 's', trials: 1",
        f"see it: optuna-dashboard '{paths.study}'",
    ]


def test_a_file_of_the_users_is_replaced_by_force_only(
    paths: SweepPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    file = paths.root / "mine.db"
    file.write_text("mine")
    assert export(paths, "--to", str(file)) == 2
    assert file.read_text() == "mine"
    assert capsys.readouterr().err == (
        f"--to: {file} exists; name another file, or replace it by --force\n"
    )
    assert export(paths, "--to", str(file), "--force") == 0
    assert file.read_bytes().startswith(b"SQLite")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("study.txt", "--to: {file} does not say what to write; name a file that ends in .log"),
        ("study", "--to: {file} does not say what to write"),
        ("nowhere/study.db", "--to: {folder}/nowhere is not a folder; make it, or name another"),
        ("folder.db", "--to: {file} is a folder; name a file"),
    ],
)
def test_a_wrong_file_is_one_message(
    paths: SweepPaths, capsys: pytest.CaptureFixture[str], name: str, message: str
) -> None:
    (paths.root / "folder.db").mkdir()
    file = paths.root / name
    assert export(paths, "--to", str(file)) == 2
    said = capsys.readouterr().err
    assert said.startswith(message.format(file=file, folder=paths.root))
    assert said.count("\n") == 1


def test_a_sweep_that_is_not_there_is_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["nobody", "--storage", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"SWEEP: there is no such sweep in {tmp_path}/nobody; name one, or the path of its folder\n"
    )


def test_a_damaged_ledger_is_one_message(paths: SweepPaths, capsys: pytest.CaptureFixture[str]) -> None:
    lines = paths.ledger.read_bytes().splitlines(keepends=True)
    paths.ledger.write_bytes(b"".join([lines[0], lines[1].replace(b"none", b"nine"), *lines[2:]]))
    assert export(paths) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"{paths.ledger}:2: the ledger is damaged here")
    assert not paths.study.exists()


def test_a_sweep_that_has_not_begun_is_one_message(
    paths: SweepPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    paths.ledger.write_bytes(b"")
    assert export(paths) == 2
    assert capsys.readouterr().err == f"{paths.ledger} is empty: the sweep has not begun\n"
