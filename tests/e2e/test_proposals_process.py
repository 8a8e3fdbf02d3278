"""The study in a process of its own, which is asked, told, killed and goes on; without Ray."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import pytest
from drivers import open_driver, report, search, settings_of, stop_logging
from optuna.samplers import RandomSampler
from sweep_runs import TINY, assert_ends_with_its_starter, wait_for

from orchestrator import child_process, proposals, proposals_process
from orchestrator.ask_and_tell import Proposal, Told
from orchestrator.driver import Driver
from orchestrator.events import SweepEnded, TrialProposed, TrialReported, TrialStarted
from orchestrator.ledger import read_ledger
from orchestrator.proposals import Proposals
from orchestrator.proposals_process import ProposalsProcess
from orchestrator.retries import RetryQueue
from orchestrator.search import TrialSearcher, searched_trials
from orchestrator.settings import SweepSettings
from trainables.ray_train import NAME_KEY

pytestmark = pytest.mark.slow

GATE = "gate"
"""A file beside the log: while it is there, a study of `serve_behind_a_gate` proposes nothing."""
Serve = Callable[[Connection, SweepSettings, Path], None]


def serve_behind_a_gate(connection: Connection, settings: SweepSettings, log: Path) -> None:
    study = proposals_process._Study(settings)

    def answer(message: Any) -> Any:
        while (log.parent / GATE).exists():
            time.sleep(0.01)
        return study(message)

    child_process.answer(connection, log, answer)


class BrokenSampler(RandomSampler):
    def sample_independent(self, *args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError("a kernel of no width")


def serve_broken(connection: Connection, settings: SweepSettings, log: Path) -> None:
    proposals.SAMPLERS["tpe"] = BrokenSampler
    proposals_process._serve(connection, settings, log)


def serve_until_asked(connection: Connection, settings: SweepSettings, log: Path) -> None:
    connection.recv()


FLAT = "search_space={temperature: {log_uniform: [0.03, 0.5]}, batch_size: {choice: [64, 128]}}"


def flat(folder: Path, sampler: str) -> SweepSettings:
    """A space that every sampler takes, with a population or a start that a few trials fill."""
    return settings_of(folder, FLAT, "first_trials=[]", f"search.sampler={sampler}", "search.trials=99")


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[str], ProposalsProcess]]:
    made: list[ProposalsProcess] = []

    def make(sampler: str) -> ProposalsProcess:
        made.append(ProposalsProcess(flat(tmp_path, sampler), (), (), tmp_path / "log"))
        made[-1].start()
        return made[-1]

    yield make
    for process in made:
        process.close()


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[[Serve], None]:
    """Gives the process something else to do."""
    return lambda serve: monkeypatch.setattr(proposals_process, "_serve", serve)


def fetch(process: Proposals | ProposalsProcess) -> Proposal:
    return wait_for(process.ask, timeout_s=60)


def kill(process: ProposalsProcess) -> None:
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)


def result_of(proposal: Proposal) -> Told:
    """Two values that depend on the parameters, and a constraint that some break."""
    temperature = float(str(proposal.values["temperature"]))
    return Told([temperature, float(proposal.number % 7)], {"c": temperature - 0.3})


def tell(process: Proposals | ProposalsProcess, proposal: Proposal) -> None:
    """Every fifth trial fails."""
    if proposal.number % 5 == 0:
        process.tell_failed(proposal.number)
    else:
        process.tell(proposal.number, result_of(proposal))


def run(process: Proposals | ProposalsProcess, num_trials: int) -> list[Proposal]:
    """Asks and tells, with two trials under way at any time."""
    asked = [fetch(process)]
    while len(asked) < num_trials:
        asked.append(fetch(process))
        tell(process, asked[-2])
    return asked


@pytest.mark.parametrize(("sampler", "num_trials"), [("tpe", 40), ("nsga2", 120), ("gp", 16)])
def test_it_proposes_what_a_study_in_the_driver_would(
    sampler: str, num_trials: int, make: Callable[[str], ProposalsProcess], tmp_path: Path
) -> None:
    process, direct = make(sampler), Proposals(flat(tmp_path, sampler))
    assert run(process, num_trials) == run(direct, num_trials)
    assert process.states() == direct.states()


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_what_is_told_while_an_answer_is_awaited_comes_after_it(
    sampler: str, make: Callable[[str], ProposalsProcess], serve: Any, tmp_path: Path
) -> None:
    serve(serve_behind_a_gate)
    process, direct = make(sampler), Proposals(flat(tmp_path, sampler))
    for study in (process, direct):
        tell(study, run(study, 12)[-1])
    last = [fetch(study) for study in (process, direct)]

    (tmp_path / GATE).touch()
    assert process.ask() is None
    process.tell(last[0].number, result_of(last[0]))
    assert process.ask() is None
    (tmp_path / GATE).unlink()
    expected = direct.ask()
    direct.tell(last[1].number, result_of(last[1]))
    assert fetch(process) == expected
    assert fetch(process) == direct.ask()


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "gp"])
def test_one_that_is_killed_between_proposals_is_missed_by_nobody(
    sampler: str,
    make: Callable[[str], ProposalsProcess],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    process, direct = make(sampler), Proposals(flat(tmp_path, sampler))
    asked = run(process, 12)
    first = process.pid
    kill(process)
    assert [*asked, fetch(process), fetch(process)] == [*run(direct, 12), direct.ask(), direct.ask()]
    assert process.pid not in (None, first)
    assert process.states() == direct.states()
    assert "the process of the study ended (-9) after 12 trials" in caplog.text


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "gp"])
def test_one_that_is_killed_at_a_proposal_makes_it_again(
    sampler: str, make: Callable[[str], ProposalsProcess], serve: Any, tmp_path: Path
) -> None:
    serve(serve_behind_a_gate)
    process, direct = make(sampler), Proposals(flat(tmp_path, sampler))
    asked, expected = run(process, 12), run(direct, 12)
    (tmp_path / GATE).touch()
    assert process.ask() is None
    kill(process)
    tell(process, asked[-1])  # after the trial was asked for, so the answer does not know of it
    (tmp_path / GATE).unlink()
    assert [*asked, fetch(process)] == [*expected, direct.ask()]
    tell(direct, expected[-1])
    assert fetch(process) == direct.ask()
    assert process.states() == direct.states()


def test_one_that_ends_whenever_it_is_asked_is_given_up(
    make: Callable[[str], ProposalsProcess], serve: Any
) -> None:
    serve(serve_until_asked)
    process = make("tpe")
    with pytest.raises(RuntimeError, match=r"ended \(0\) after 0 trials, 3 times over one proposal"):
        fetch(process)
    assert process.pid is None


def test_a_trial_is_told_of_once(make: Callable[[str], ProposalsProcess]) -> None:
    process = make("random")
    proposal = fetch(process)
    process.tell_failed(proposal.number)
    with pytest.raises(AssertionError):
        process.tell_failed(proposal.number)
    assert process.states() == {0: "FAIL"}
    with pytest.raises(AssertionError):
        process.tell_failed(proposal.number)


def test_a_proposal_that_nobody_takes_does_not_exist(
    make: Callable[[str], ProposalsProcess], serve: Any, tmp_path: Path
) -> None:
    serve(serve_behind_a_gate)
    process, direct = make("tpe"), Proposals(flat(tmp_path, "tpe"))
    asked = run(process, 3)
    run(direct, 3)
    (tmp_path / GATE).touch()
    assert process.ask() is None
    assert process.states() == direct.states()
    assert process.pid is None
    (tmp_path / GATE).unlink()
    assert fetch(process) == direct.ask()
    assert [proposal.number for proposal in asked] == [0, 1, 2]


def test_ctrl_c_leaves_it_be(make: Callable[[str], ProposalsProcess]) -> None:
    process = make("random")
    first = process.pid
    assert first is not None
    assert fetch(process).number == 0
    os.kill(first, signal.SIGINT)
    assert fetch(process).number == 1
    assert process.pid == first


def test_it_is_gone_once_it_is_closed(make: Callable[[str], ProposalsProcess]) -> None:
    process = make("random")
    assert process.pid is not None
    child = psutil.Process(process.pid)
    fetch(process)
    process.close()
    assert process.pid is None
    assert not child.is_running()


@pytest.mark.parametrize("is_killed", [True, False], ids=["killed", "ends unclosed"])
def test_it_lives_as_long_as_the_process_that_started_it(tmp_path: Path, is_killed: bool) -> None:
    starts = f"""
import os, pathlib, signal, time
from orchestrator.proposals_process import ProposalsProcess
from orchestrator.settings import load_settings
process = ProposalsProcess(load_settings(pathlib.Path({str(TINY)!r})), (), (), pathlib.Path("log"))
process.start()
started = process.pid
os.kill(started, signal.SIGINT)  # Ctrl-C before it even runs Python
while not process.ask(): time.sleep(0.01)
assert process.pid == started
"""
    assert_ends_with_its_starter(tmp_path, starts, is_killed)


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Callable[[], Driver]]:
    """Opens a sweep of nine trials in `runs`, or goes on with it."""
    drivers: list[Driver] = []

    def open_() -> Driver:
        drivers.append(open_driver(settings_of(tmp_path, "search.trials=9")))
        return drivers[-1]

    yield open_
    for driver in drivers:
        driver.proposals.close()
        driver.tracker.close(0)
        driver.mlflow.close()
        driver.ledger.close()
    stop_logging()


def searcher_of(driver: Driver) -> TrialSearcher:
    ask, emit = driver.proposals.ask, driver.emit
    return TrialSearcher(
        searched_trials(driver.settings, driver.record, ask, emit), lambda: 2, RetryQueue()
    )


def start(driver: Driver, searcher: TrialSearcher) -> str:
    """The next trial, as Tune gets and starts it."""
    name: str = wait_for(lambda: searcher.suggest(""))[NAME_KEY]
    driver.emit(TrialStarted(name, time.time()))
    return name


def test_the_driver_takes_reports_while_a_proposal_is_awaited(
    driver: Callable[[], Driver], serve: Any
) -> None:
    serve(serve_behind_a_gate)
    sweep = driver()
    searcher = searcher_of(sweep)
    trial = start(sweep, searcher)
    gate = sweep.paths.log.parent / GATE
    gate.touch()
    longest_s = 0.0
    for epoch in range(1, 101):  # which ends only because nothing waits for the gate to open
        started = time.perf_counter()
        assert searcher.suggest("") is None
        longest_s = max(longest_s, time.perf_counter() - started)
        sweep.emit(TrialReported(trial, report(epoch, 0.5, 20.0), time.time()))
    assert sweep.record.trials[trial].last_epoch == 100
    assert longest_s < 0.5
    gate.unlink()
    assert start(sweep, searcher) == "trial-0001"


def test_a_resumed_sweep_asks_again_for_what_was_awaited(
    driver: Callable[[], Driver], serve: Any, tmp_path: Path
) -> None:
    serve(serve_behind_a_gate)
    first = driver()
    searcher = searcher_of(first)
    start(first, searcher)
    (first.paths.log.parent / GATE).touch()
    assert searcher.suggest("") is None
    with first:
        first.end("interrupted", "interrupted by SIGINT")
    assert first.proposals.pid is None
    (first.paths.log.parent / GATE).unlink()
    stop_logging()
    second = driver()
    searcher = searcher_of(second)
    assert [start(second, searcher) for _ in range(2)] == ["trial-0000", "trial-0001"]
    direct = Proposals(second.settings)
    assert [t.parameters for t in second.record.trials.values()] == [
        direct.ask().values for _ in range(2)
    ]
    events = list(read_ledger(second.paths.ledger))
    assert [e.number for e in events if isinstance(e, TrialProposed)] == [0, 1]


def test_an_error_of_the_sampler_ends_the_sweep_with_its_cause(
    driver: Callable[[], Driver], serve: Any
) -> None:
    serve(serve_broken)
    sweep = driver()

    def search_on() -> None:
        with sweep:
            for _ in range(9):
                search(sweep, 0.5, 20.0)

    with pytest.raises(RuntimeError, match="ZeroDivisionError: a kernel of no width"):
        search_on()
    (last,) = [e for e in read_ledger(sweep.paths.ledger) if isinstance(e, SweepEnded)]
    assert last.status == "failed"
    assert last.reason.startswith("RuntimeError: the study failed after ")
    assert last.reason.endswith("ZeroDivisionError: a kernel of no width")
    assert sweep.proposals.pid is None
    assert "in sample_independent" in sweep.paths.log.read_text()


def test_a_trial_that_is_left_open_is_noticed(driver: Callable[[], Driver]) -> None:
    sweep = driver()
    fetch(sweep.proposals)
    with pytest.raises(AssertionError, match="a trial was left open in Optuna"):
        sweep.end("completed", "it is done")


def test_a_driver_that_cannot_open_leaves_no_study(
    driver: Callable[[], Driver], monkeypatch: pytest.MonkeyPatch
) -> None:
    pids: list[int | None] = []

    def fail(sweep: Driver, *args: object) -> None:
        pids.append(sweep.proposals.pid)
        raise RuntimeError("it cannot begin")

    monkeypatch.setattr(Driver, "_begin", fail)
    with pytest.raises(RuntimeError, match="it cannot begin"):
        driver()
    (pid,) = pids
    assert pid is not None and not psutil.pid_exists(pid)
    stop_logging()
