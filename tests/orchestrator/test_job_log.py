from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import pytest

from orchestrator import job_log
from orchestrator.errors import UserError
from orchestrator.job_client import JobServer
from orchestrator.job_log import JobLog
from orchestrator.submission import Job

PRINTED = "".join(f"line {number}\n" for number in range(10))


class Connections:
    """A cluster whose connections break after so many characters each; the last one ends the job.

    Args:
        lengths: of what comes over each connection.
        is_away: whether the cluster answers nothing else.
    """

    def __init__(self, *lengths: int, is_away: bool = False) -> None:
        self.client = self
        self._lengths = list(lengths)
        self._is_away = is_away
        self._num_printed = 0

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        length = self._lengths.pop(0)
        self._num_printed = max(self._num_printed, length)
        for start in range(0, length, 7):
            yield PRINTED[start : min(length, start + 7)]
        if self._lengths:
            raise RuntimeError("WebSocket connection closed unexpectedly with close code 1006")

    def job(self, job_id: str) -> Job:
        if self._is_away:
            raise UserError("no answer")
        return Job(job_id, "RUNNING" if self._lengths else "SUCCEEDED", 0)

    def log(self, job_id: str) -> str:
        return PRINTED if not self._lengths else PRINTED[: self._num_printed]


def follow(connections: Any, clock: Iterator[float] | None = None) -> tuple[str, Job]:
    """What was written, and the job that has ended."""
    written: list[str] = []
    seconds = clock or itertools.repeat(0.0)
    log = JobLog(cast(JobServer, connections), "a", written.append)
    job = log.follow(clock=lambda: next(seconds), sleep=lambda _: None)
    return "".join(written), job


@pytest.mark.parametrize("lengths", [(70,), (70, 70), (20, 70), (20, 33, 5, 0, 50), (0, 0, 70)])
def test_each_line_is_written_once_through_broken_connections(lengths: tuple[int, ...]) -> None:
    text, job = follow(Connections(*lengths))
    assert text == PRINTED
    assert job.status == "SUCCEEDED"


def test_a_cluster_that_stays_away_is_given_up() -> None:
    away = Connections(*itertools.repeat(20, 9), is_away=True)
    with pytest.raises(UserError, match="no answer; a may be running, look again with --status"):
        follow(away, clock=itertools.count(0.0, 100.0))
    assert len(away._lengths) == 9 - 4  # at 100, 200, 300 and 400 s; patience is 300 s


def test_who_reads_no_more_ends_the_following() -> None:
    def write(text: str) -> None:
        raise BrokenPipeError

    log = JobLog(cast(JobServer, Connections(70, 70)), "a", write)
    with pytest.raises(BrokenPipeError):
        asyncio.run(log._tail())


def test_a_quiet_connection_is_opened_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    class Quiet(Connections):
        async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
            async for text in super().tail_job_logs(job_id):
                yield text
                if len(self._lengths) == 1:
                    await asyncio.sleep(3600)

    monkeypatch.setattr(job_log, "_QUIET_S", 0.01)
    text, _ = follow(Quiet(70, 70))
    assert text == PRINTED


def test_what_was_printed_before_may_be_left_out() -> None:
    written: list[str] = []
    connections = Connections(7, 70)
    connections._num_printed = 7
    log = JobLog(cast(JobServer, connections), "a", written.append)
    log.skip()
    connections._num_printed = 21
    log.rest()
    log.rest()
    assert written == [PRINTED[7:21]]
    log.skip(2)
    log.rest()
    assert written[1:] == [PRINTED[7:21]]
    log.skip(9)
    log.rest()
    assert written[2:] == [PRINTED[:21]]


def test_a_job_whose_log_is_lost_with_its_node_has_ended_all_the_same() -> None:
    class Lost(Connections):
        def log(self, job_id: str) -> str:
            raise UserError("no such node")

    text, job = follow(Lost(20, 50))
    assert text == PRINTED[:50]
    assert job.status == "SUCCEEDED"
