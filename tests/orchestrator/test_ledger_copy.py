from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from stores import URL, MemoryStore
from sweep_events import proposed

from orchestrator.errors import UserError
from orchestrator.ledger import Ledger
from orchestrator.ledger_copy import LedgerCopy, fetch, is_copied, read_copy
from orchestrator.paths import SweepPaths
from trainables.places import StoreError, list_files, read_object

NUM_EVENTS = 20
PATIENCE_S = 30.0


class Written:
    """A ledger with its copy."""

    def __init__(self, root: Path, store: MemoryStore) -> None:
        self.paths = SweepPaths(root / "s", f"{URL}/s")
        self.paths.root.mkdir()
        self.paths.settings.write_text("name: s\n")
        self.paths.log.touch()
        self.ledger = Ledger(self.paths.ledger)
        self.copy = LedgerCopy(self.paths)
        self.store = store
        self._number = 0

    def append(self) -> None:
        self.ledger.append(proposed(f"trial-{self._number:04d}", self._number))
        self._number += 1

    @property
    def content(self) -> bytes:
        return self.paths.ledger.read_bytes()


@pytest.fixture
def written(tmp_path: Path, memory: MemoryStore) -> Iterator[Written]:
    written = Written(tmp_path, memory)
    written.append()
    yield written
    written.copy._closing.set()
    written.ledger.close()


def test_the_copy_grows_as_the_ledger_does(written: Written) -> None:
    written.copy.start()
    for _ in range(NUM_EVENTS):
        written.append()
        assert written.copy.flush(PATIENCE_S)
        assert read_copy(written.paths) == written.content
    assert is_copied(list_files(written.paths.url))
    assert written.copy.close(PATIENCE_S) == 0


def test_it_is_one_object_at_the_end(written: Written) -> None:
    written.copy.start()
    written.append()
    assert written.copy.close(PATIENCE_S) == 0
    assert written.store.names == {"s/ledger.jsonl", "s/sweep.yaml", "s/sweep.log"}
    assert read_object(f"{URL}/s/ledger.jsonl") == written.content


def test_segments_begin_where_they_say(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.ledger_copy._SEGMENT_BYTES", 1000)
    written.copy.start()
    for _ in range(NUM_EVENTS):
        written.append()
        written.copy.flush(PATIENCE_S)
    segments = sorted(name for name in written.store.names if name.startswith("s/ledger/"))
    assert len(segments) > 2
    for name in segments:
        begin = int(name.removeprefix("s/ledger/").removesuffix(".jsonl"))
        assert written.content[begin:].startswith(read_object(f"{URL}/{name}"))
    assert read_copy(written.paths) == written.content
    written.copy.close(PATIENCE_S)


def test_a_copy_cut_off_at_any_call_is_a_beginning_of_the_ledger(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.ledger_copy._SEGMENT_BYTES", 1)
    lengths = set()
    for num_calls in range(12):
        written.append()
        written.append()
        written.store.num_left = num_calls
        copy = LedgerCopy(written.paths)
        try:  # what its thread does, one life after the other
            copy._put(written.paths.settings)
            copy._compact()
            written.append()
            copy._copy()
            written.append()
            copy._copy()
            copy._compact()
        except StoreError:
            pass
        written.store.num_left = None
        copied = read_copy(written.paths)
        assert written.content.startswith(copied)
        lengths.add(len(written.content) - len(copied))
    assert 0 in lengths and len(lengths) > 2


def test_a_store_that_was_away_is_caught_up_with(written: Written) -> None:
    written.copy.start()
    written.store.is_away = True
    written.append()
    assert not written.copy.flush(0.5)
    written.store.is_away = False
    assert written.copy.flush(PATIENCE_S)
    assert read_copy(written.paths) == written.content
    written.copy.close(PATIENCE_S)


def test_the_end_tells_how_much_is_missing(written: Written) -> None:
    written.copy.start()
    written.store.is_away = True
    for _ in range(3):
        written.append()
    assert written.copy.close(0.1) == 3


def test_a_line_that_is_not_whole_is_not_copied(written: Written) -> None:
    whole = written.content
    with written.paths.ledger.open("ab") as file:
        file.write(b"0123abcd {")
    written.copy._compact()
    assert read_copy(written.paths) == whole


def test_who_is_held_back_acts_on_what_is_copied_alone(written: Written) -> None:
    written.copy.start()
    seen: list[bytes] = []
    written.store.is_away = True
    written.append()
    act = written.copy.held_back(lambda: seen.append(read_copy(written.paths)))
    expected = written.content
    thread = threading.Thread(target=act)
    thread.start()
    assert not seen
    written.append()
    written.store.is_away = False
    thread.join(PATIENCE_S)
    assert seen[0].startswith(expected)
    written.copy.close(PATIENCE_S)


def test_who_is_held_back_for_long_is_told_to_try_again(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.ledger_copy._WAIT_S", 0.1)
    act = written.copy.held_back(lambda: pytest.fail("it was not copied"))
    with pytest.raises(OSError, match=f"the ledger waits to be copied to {URL}/s"):
        act()


def elsewhere(written: Written, tmp_path: Path) -> SweepPaths:
    return SweepPaths(tmp_path / "elsewhere" / "s", written.paths.url)


def test_another_machine_fetches_ledger_and_settings(written: Written, tmp_path: Path) -> None:
    written.copy.start()
    written.copy.close(PATIENCE_S)
    paths = elsewhere(written, tmp_path)
    fetch(paths)
    assert paths.ledger.read_bytes() == written.content
    assert paths.settings.read_text() == "name: s\n"


@pytest.mark.parametrize("longer", ["here", "at the URL"])
def test_the_longer_ledger_counts(longer: str, written: Written, tmp_path: Path) -> None:
    written.copy.start()
    written.copy.close(PATIENCE_S)
    paths = elsewhere(written, tmp_path)
    fetch(paths)
    if longer == "here":
        ledger = Ledger(paths.ledger)
        ledger.append(proposed("trial-0009", 9))
        ledger.close()
    else:
        written.append()
    expected = max(paths.ledger.read_bytes(), written.content, key=len)
    LedgerCopy(written.paths)._compact()
    fetch(paths)
    assert paths.ledger.read_bytes() == expected


def test_two_stories_are_refused(written: Written, tmp_path: Path) -> None:
    written.copy.start()
    written.copy.close(PATIENCE_S)
    paths = elsewhere(written, tmp_path)
    fetch(paths)
    ledger = Ledger(paths.ledger)
    ledger.append(proposed("trial-0008", 8))
    ledger.close()
    before = paths.ledger.read_bytes()
    written.append()
    LedgerCopy(written.paths)._compact()
    with pytest.raises(UserError, match=f"tell different stories.*; remove {paths.root} to go on"):
        fetch(paths)
    assert paths.ledger.read_bytes() == before


def test_a_store_that_is_away_is_no_ledger_that_is_not_there(written: Written) -> None:
    written.store.is_away = True
    with pytest.raises(UserError, match=f"storage: {URL}/s cannot be fetched: .*no answer"):
        fetch(written.paths)
