"""The study of a sweep in a process of its own, so that no proposal keeps the driver from its reports.

With 1,000 trials told a proposal takes `tpe` tens of milliseconds and `gp` ten seconds.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from orchestrator.ask_and_tell import Known, Proposal, Told
from orchestrator.child_process import ChildProcess, answer
from orchestrator.settings import SweepSettings

if TYPE_CHECKING:
    from orchestrator.proposals import Proposals

_log = logging.getLogger(__name__)
_MAX_ENDED = 3
"""Processes that may end over one proposal before the sweep does."""
_READY = "ready?"
"""The first message, answered once the process has imported what it needs."""


_Wanted = Literal["proposal", "states"]


class _Request(NamedTuple):
    """A message to the process.

    Attributes:
        wants: what is to be answered.
        tells: number of each trial that has ended since the last request, and what it came to.
        history: of the sweep and of its imports, for a process that has no study yet.
    """

    wants: _Wanted
    tells: Mapping[int, Told | None] = {}
    history: tuple[Sequence[Known], Sequence[Known]] | None = None


class ProposalsProcess:
    """`Proposals` that are asked for and fetched later; for one thread.

    What is proposed is what `Proposals` would have proposed when it was asked for: what is told while
    the answer is awaited comes after it. A process that ends early is started again and its study is
    rebuilt, so that it answers what the first would have.

    Args:
        settings: the sweep's.
        history: the trials that were asked for before, in order of number.
        imported: trials of earlier sweeps.
        log: the file that warnings and errors go to.
    """

    def __init__(
        self, settings: SweepSettings, history: Sequence[Known], imported: Sequence[Known], log: Path
    ) -> None:
        self._settings = settings
        self._log = log
        self._known = list(history)
        self._imported = imported
        self._tells: dict[int, Told | None] = {}
        self._is_asked = False
        self._process: ChildProcess | None = None
        self._has_study = False
        self._num_ended = 0

    @property
    def pid(self) -> int | None:
        """Of the process; None while there is none."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Starts the process, which gets ready by itself."""
        self._process = ChildProcess("study", _serve, self._settings, self._log)
        self._has_study = False
        self._process.connection.send(_READY)

    def ask(self) -> Proposal | None:
        """Asks for the next trial, unless it was asked for already.

        Returns:
            The trial, or None while it is not there; never waits for it.

        Raises:
            RuntimeError: the study failed; names the cause.
        """
        try:
            if self._process is None:
                self.start()
            if not self._is_asked:
                self._is_asked = True
                self._num_ended = 0
                self._send("proposal")
            proposal: Proposal | None = self._receive("proposal", timeout_s=0)
        except (EOFError, ConnectionError) as error:
            self._note_end(error)
            return None
        except BaseException:  # an interrupt: the answer would be taken for another one's
            self._end()
            raise
        if proposal is not None:
            assert proposal.number == len(self._known), "a trial was proposed twice, or lost"
            self._known.append(Known(proposal.values, proposal.sampler_state, "running"))
            self._is_asked = False
        return proposal

    def tell(self, number: int, told: Told) -> None:
        """Reports what a trial came to."""
        self._tell(number, told)

    def tell_failed(self, number: int) -> None:
        """Reports that a trial gave nothing."""
        self._tell(number, None)

    def _tell(self, number: int, told: Told | None) -> None:
        assert self._known[number].told == "running" and number not in self._tells
        self._tells[number] = told  # sent with the next request, to a process that has nothing to do

    def _take_tells(self) -> Mapping[int, Told | None]:
        """What is to be told now; from here on it is known."""
        tells, self._tells = self._tells, {}
        for number, told in tells.items():
            self._known[number] = self._known[number]._replace(told=told)
        return tells

    def _send(self, wants: _Wanted) -> None:
        """Sends a request to a process that has the study; another one is sent it when it is ready."""
        request = _Request(wants, self._take_tells())
        if self._has_study and self._process is not None:
            self._process.connection.send(request)

    def _receive(self, wants: _Wanted, timeout_s: float | None) -> Any | None:
        """The answer, or None while it is not there."""
        assert self._process is not None
        connection = self._process.connection
        while connection.poll(timeout_s):
            is_answered, value = connection.recv()
            if not is_answered:
                text = (
                    f"the study failed after {len(self._known)} trials; its traceback is in {self._log}"
                )
                raise RuntimeError(f"{text}: {type(value).__name__}: {value}") from value
            if self._has_study:
                return value
            connection.send(_Request(wants, history=(self._known, self._imported)))
            self._has_study = True
        return None

    def _note_end(self, error: Exception) -> None:
        """Makes way for another process.

        Raises:
            RuntimeError: too many have ended.
        """
        code = self._end(patience_s=1.0)
        self._num_ended += 1
        text = f"the process of the study ended ({code}) after {len(self._known)} trials"
        if self._num_ended == _MAX_ENDED:
            raise RuntimeError(
                f"{text}, {_MAX_ENDED} times over one proposal; see {self._log}"
            ) from error
        _log.warning("%s; another one takes its place", text)

    def states(self) -> dict[int, str]:
        """Number of each trial to its state in the study, once all was told.

        Waits for the study, unless it is at work on a proposal, which nobody will take any more: then it
        is ended, and the states are those that a new one would have.
        """
        if self._is_asked:
            self.close()
        try:
            self._send("states")
            if self._process is not None and self._has_study:
                return self._receive("states", timeout_s=None) or {}
        except (EOFError, ConnectionError):
            self._end()
        except BaseException:
            self._end()
            raise
        return {number: _state(known) for number, known in enumerate(self._known)}

    def close(self) -> None:
        """Ends the process; what was asked for is not awaited."""
        self._is_asked = False
        self._end()

    def _end(self, patience_s: float = 0.0) -> int | None:
        """Ends the process, which has nothing to lose; its exit code."""
        process, self._process = self._process, None
        return None if process is None else process.end(patience_s)


def _state(known: Known) -> str:
    if known.told == "running":
        return "RUNNING"
    return "FAIL" if known.told is None else "COMPLETE"


def _serve(connection: Connection, settings: SweepSettings, log: Path) -> None:
    """The process."""
    answer(connection, log, _Study(settings))


class _Study:
    """Answers the driver's messages."""

    def __init__(self, settings: SweepSettings) -> None:
        self._settings = settings
        self._proposals: Proposals | None = None

    def __call__(self, message: _Request | Literal["ready?"]) -> Any:
        try:
            return self._answer(message)
        except Exception:
            _log.exception("the study failed")
            raise

    def _answer(self, message: _Request | Literal["ready?"]) -> Any:
        from orchestrator.proposals import Proposals

        if not isinstance(message, _Request):
            return None
        if message.history is not None:
            self._proposals = Proposals(self._settings, *message.history)
        assert self._proposals is not None
        for number, told in message.tells.items():
            if told is None:
                self._proposals.tell_failed(number)
            else:
                self._proposals.tell(number, told)
        return self._proposals.ask() if message.wants == "proposal" else self._proposals.states()
