from __future__ import annotations

import errno
import fcntl
import logging
import math
import resource
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sweep_events import EXAMPLES, ended, proposed, reported, started

from orchestrator import ledger as ledger_module
from orchestrator.errors import UserError
from orchestrator.events import Event, SweepEnded, SweepStarted, TrialEnded, TrialReported
from orchestrator.ledger import Ledger, LedgerReader, decode, encode, read_ledger
from trainables.reports import EpochReport

EVENTS: list[Event] = [
    SweepStarted("s", {"name": "s", "first_trials": [{"head.kind": None}]}, {"python": "3.11"}, 1.5),
    proposed("trial-0000", 0, **{"head.kind": "mlp", "temperature": 0.1 + 0.2}),
    started("trial-0000", time=2.0),
    ended("trial-0000", "failed", "line\nbreak \r é [red] \u2028 \x85"),
    SweepEnded("completed", "", 3.0),
]


def write(path: Path, events: list[Event]) -> Path:
    ledger = Ledger(path)
    for event in events:
        ledger.append(event)
    ledger.close()
    return path


@pytest.fixture
def ledger_file(tmp_path: Path) -> Path:
    return write(tmp_path / "ledger.jsonl", EVENTS)


def test_events_are_read_back_in_order(ledger_file: Path) -> None:
    assert list(read_ledger(ledger_file)) == EVENTS


def test_each_event_is_one_line(ledger_file: Path) -> None:
    assert len(ledger_file.read_bytes().splitlines()) == len(EVENTS)


def test_a_report_is_read_back_as_the_same_epoch(tmp_path: Path) -> None:
    event = reported("trial-0000", 5, accuracy=0.1 + 0.2, d_eff=7.0)
    (again,) = read_ledger(write(tmp_path / "ledger.jsonl", [event]))
    assert isinstance(again, TrialReported)
    assert EpochReport.from_dict(again.report) == EpochReport.from_dict(event.report)


def test_numbers_that_are_not_finite_are_kept(tmp_path: Path) -> None:
    event = reported("trial-0000", 5, accuracy=math.nan, d_eff=math.inf)
    (again,) = read_ledger(write(tmp_path / "ledger.jsonl", [event]))
    assert isinstance(again, TrialReported)
    assert math.isnan(again.report["metrics"]["knn_accuracy"])
    assert again.report["metrics"]["d_eff"] == math.inf


def test_an_event_is_on_disk_when_append_returns(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for number, event in enumerate(EVENTS, start=1):
        ledger.append(event)
        assert list(read_ledger(ledger.path)) == EVENTS[:number]
    ledger.close()


def test_an_opened_ledger_goes_on_where_it_ended(ledger_file: Path) -> None:
    write(ledger_file, EVENTS[:2])
    assert list(read_ledger(ledger_file)) == EVENTS + EVENTS[:2]


@pytest.mark.parametrize("num_bytes", [1, 2, 20])
def test_a_torn_last_line_is_dropped_with_a_warning(
    num_bytes: int, ledger_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger_file.write_bytes(ledger_file.read_bytes()[:-num_bytes])
    with caplog.at_level(logging.WARNING, logger="orchestrator.ledger"):
        assert list(read_ledger(ledger_file)) == EVENTS[:-1]
    assert f"{ledger_file}:{len(EVENTS)}: dropped the last line" in caplog.text


def test_an_empty_ledger_has_no_events(tmp_path: Path) -> None:
    assert list(read_ledger(write(tmp_path / "ledger.jsonl", []))) == []


@pytest.mark.parametrize("line", [1, 2, 4])
def test_a_flipped_bit_is_an_error_with_its_line(line: int, ledger_file: Path) -> None:
    lines = ledger_file.read_bytes().splitlines(keepends=True)
    middle = len(lines[line - 1]) // 2
    damaged = bytearray(lines[line - 1])
    damaged[middle] ^= 1
    ledger_file.write_bytes(b"".join([*lines[: line - 1], bytes(damaged), *lines[line:]]))
    events = read_ledger(ledger_file)
    assert [next(events) for _ in range(line - 1)] == EVENTS[: line - 1]
    with pytest.raises(UserError, match=f"{ledger_file}:{line}: the ledger is damaged"):
        next(events)


def test_an_unknown_event_in_the_middle_is_an_error(ledger_file: Path) -> None:
    text = b'{"event":"SweepPaused","time":1.5}'
    line = f"{zlib.crc32(text):08x} ".encode() + text + b"\n"
    ledger_file.write_bytes(line + ledger_file.read_bytes())
    with pytest.raises(UserError, match=f"{ledger_file}:1: .*unknown event 'SweepPaused'"):
        list(read_ledger(ledger_file))


@EXAMPLES
@given(st.text(), st.text(), st.floats(allow_nan=False))
def test_any_text_survives_a_line(reason: str, details: str, time: float) -> None:
    event = TrialEnded("trial-0000", "failed", reason, time, details)
    line = encode(event)
    assert line.count(b"\n") == 1
    assert decode(line) == event


@EXAMPLES
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_any_altered_byte_is_noticed(position: int, change: int) -> None:
    line = bytearray(encode(EVENTS[1]))
    line[position % len(line)] ^= change
    with pytest.raises(ValueError, match=r"^its checksum is wrong$"):
        decode(bytes(line))


def test_what_follows_a_torn_line_starts_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    for torn in (b"", b'0badc0de {"event":"Tri'):
        with path.open("ab") as file:
            file.write(torn)
        ledger = Ledger(path)
        ledger.append(started("trial-0000"))
        ledger.close()
    assert list(read_ledger(path)) == [started("trial-0000")] * 2


def test_a_whole_last_line_that_was_altered_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(encode(started("trial-0000")).replace(b"0000", b"0001"))
    with pytest.raises(UserError, match=r"ledger.jsonl:1: the ledger is damaged"):
        list(read_ledger(path))


def test_a_line_that_the_disk_takes_in_part_only_leaves_nothing(
    tmp_path: Path,
) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(EVENTS[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ledger.path.stat().st_size + 20, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            ledger.append(EVENTS[1])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(read_ledger(ledger.path)) == EVENTS[:1]
    ledger.append(EVENTS[2])
    ledger.close()
    assert list(read_ledger(ledger.path)) == [EVENTS[0], EVENTS[2]]


class AwayDisk:
    """Stands in for `os.fsync` on a disk that is away for some calls."""

    def __init__(self, num_away: int, number: int = errno.EIO) -> None:
        self.num_away = num_away
        self._number = number

    def __call__(self, file: int) -> None:
        if self.num_away:
            self.num_away -= 1
            raise OSError(self._number, "away")


def test_a_disk_that_comes_back_has_each_event_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "_LOOK_EVERY_S", 0.0)
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(EVENTS[0])
    monkeypatch.setattr(ledger_module.os, "fsync", AwayDisk(3))
    for event in EVENTS[1:]:
        ledger.append(event)
    ledger.close()
    assert list(read_ledger(ledger.path)) == EVENTS


@pytest.mark.parametrize(("patience_s", "number"), [(0.0, errno.EIO), (1e9, errno.ENOSPC)])
def test_a_disk_that_stays_away_or_is_full_is_an_error_and_leaves_nothing(
    patience_s: float, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl", patience_s)
    ledger.append(EVENTS[0])
    monkeypatch.setattr(ledger_module.os, "fsync", AwayDisk(10**9, number))
    with pytest.raises(OSError, match="away"):
        ledger.append(EVENTS[1])
    ledger.close()
    assert list(read_ledger(ledger.path)) == EVENTS[:1]


def test_a_reader_gives_each_event_once(tmp_path: Path) -> None:
    path = write(tmp_path / "ledger.jsonl", EVENTS[:2])
    reader = LedgerReader(path)
    assert reader.read() == EVENTS[:2]
    assert reader.read() == []
    write(path, EVENTS[2:])
    assert reader.read() == EVENTS[2:]


def test_a_reader_waits_for_the_rest_of_a_line(tmp_path: Path) -> None:
    path = write(tmp_path / "ledger.jsonl", EVENTS[:1])
    reader = LedgerReader(path)
    line = encode(EVENTS[1])
    for place in range(0, len(line), 30):
        assert reader.read() == (EVENTS[:1] if place == 0 else [])
        with path.open("ab") as file:
            file.write(line[place : place + 30])
    assert reader.read() == EVENTS[1:2]


def test_a_reader_goes_on_after_a_torn_line_was_cut_off(ledger_file: Path) -> None:
    reader = LedgerReader(ledger_file)
    with ledger_file.open("ab") as file:
        file.write(encode(EVENTS[0])[:20])
    assert reader.read() == EVENTS
    write(ledger_file, EVENTS[:1])  # a resume: it drops what was torn
    assert reader.read() == EVENTS[:1]


def test_a_reader_refuses_a_damaged_line_each_time(ledger_file: Path) -> None:
    content = ledger_file.read_bytes()
    ledger_file.write_bytes(content.replace(b"mlp", b"nlp"))
    reader = LedgerReader(ledger_file)
    for _ in range(2):
        with pytest.raises(ValueError, match="checksum"):
            reader.read()


def test_a_disk_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(UserError, match=r"cannot be locked \(Function not implemented\)") as caught:
        Ledger(tmp_path / "ledger.jsonl")
    assert caught.value.location == ("storage",)
