"""Follows what a submitted sweep prints, through lost connections, to its end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

from orchestrator.errors import UserError
from orchestrator.job_client import JobServer
from orchestrator.submission import Job

_PATIENCE_S = 300.0
_QUIET_S = 60.0
_PAUSE_S = 1.0


class JobLog:
    """What a job prints, each character once.

    Args:
        server: of the cluster.
        job_id: the job's.
        write: takes the text as it comes.
    """

    def __init__(self, server: JobServer, job_id: str, write: Callable[[str], None]) -> None:
        self._server = server
        self._job_id = job_id
        self._write = write
        self._num_shown = 0

    def skip(self, num_lines: int = 0) -> None:
        """Leaves out what was printed so far, but for so many lines."""
        lines = self._server.log(self._job_id).splitlines(keepends=True)
        self._num_shown = sum(map(len, lines[: max(0, len(lines) - num_lines)]))

    def rest(self) -> None:
        """Writes what was printed since."""
        self._take(self._server.log(self._job_id), 0)

    def _take(self, text: str, start: int) -> None:
        """Writes what of a text was not before.

        Args:
            text: a part of the log.
            start: its place in the log, in characters.
        """
        if new := text[max(0, self._num_shown - start) :]:
            self._write(new)
            self._num_shown = start + len(text)

    def follow(
        self,
        patience_s: float = _PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Job:
        """Writes until the job has ended, and returns it.

        Args:
            patience_s: how long the cluster may be away.
            clock: seconds that only grow.
            sleep: waits so many seconds.

        Raises:
            UserError: it is away for longer; the job may go on.
        """
        answered = clock()
        while True:
            try:
                asyncio.run(self._tail())
                job = self._server.job(self._job_id)
                answered = clock()
                # Also makes an agent that was started anew read the log; its node may be gone, too.
                with contextlib.suppress(UserError):
                    self.rest()
                if job.has_ended:
                    return job
            except UserError as error:
                if clock() - answered > patience_s:
                    text = f"{error}; {self._job_id} may be running, look again with --status"
                    raise UserError(text) from None
            sleep(_PAUSE_S)

    async def _tail(self) -> None:
        """Writes what comes over one connection, which starts at the beginning of the log, until it ends
        or is quiet, in which case nobody knows whether it is still there.
        """
        from aiohttp import ClientError

        chunks: AsyncIterator[str] = self._server.client.tail_job_logs(self._job_id)
        position = 0
        while True:
            try:
                text = await asyncio.wait_for(anext(chunks), _QUIET_S)
            except StopAsyncIteration:
                return
            except (ClientError, RuntimeError, OSError, TimeoutError):
                return  # the caller asks whether the job has ended
            self._take(text, position)
            position += len(text)
