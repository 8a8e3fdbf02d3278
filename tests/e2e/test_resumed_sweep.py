"""A sweep whose driver is killed, or ends, and is resumed: nothing is lost and nothing repeated."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import psutil
import pytest
from resumable_sweeps import RESUMABLE, is_dead, num_lines, stories
from sweep_runs import SweepRun, ray_processes, run_sweep, wait_for
from tracked_story import assert_mlflow_tells_the_story

from orchestrator.events import TrialEnded
from orchestrator.proposals import Proposals
from orchestrator.settings import load_settings
from orchestrator.told import known_trials

pytestmark = pytest.mark.slow

NUM_TRIALS = 8
NUM_KILLS = int(os.environ.get("MONOCON_NUM_KILLS", "3"))


def resume(folder: Path, name: str, *arguments: str, **options: Any) -> SweepRun:
    return run_sweep(folder, name, *arguments, file=RESUMABLE, resumed=True, **options)


Moment = Literal["start-up", "search", "evaluation"]
TORN = b'12345678 {"event":"Trial'


class Killer:
    """Kills drivers of one sweep again and again, each at a random moment; one is interrupted instead.

    Attributes:
        hits: what each life that a kill ended had come to: "start-up" where it had written no event.
        interrupted: the life that was interrupted.
    """

    interrupted: SweepRun

    def __init__(self, folder: Path, name: str, num_kills: int) -> None:
        self._folder, self._name = folder, name
        self._ledger = folder / "runs" / name / "ledger.jsonl"
        self._random = random.Random(0)
        num_each = max(1, num_kills // 5)
        starting: list[Moment] = ["start-up"] * num_each
        searching: list[Moment] = ["search"] * (num_kills - 2 * num_each)
        evaluating: list[Moment] = ["evaluation"] * num_each
        self._random.shuffle(early := starting + searching)
        self._moments: list[Moment] = early + evaluating
        self.hits: list[Moment] = []

    def kill_all(self) -> None:
        """One life a moment, until a driver has come to the end of the sweep."""
        for number, moment in enumerate(self._moments):
            if number == 1:
                self.interrupted = self.live(while_running=self._interrupt)
            before = num_lines(self._ledger)
            life = self.live(while_running=partial(self._kill, moment))
            if life.returncode != -signal.SIGKILL:
                return
            at_work: Moment = "evaluation" if self._is_searched() else "search"
            self.hits.append("start-up" if num_lines(self._ledger) == before else at_work)

    def live(self, **options: Any) -> SweepRun:
        """One driver from its start to its end, or its death."""
        is_begun = self._ledger.exists()
        return run_sweep(self._folder, self._name, file=RESUMABLE, resumed=is_begun, **options)

    def _is_searched(self) -> bool:
        return num_lines(self._ledger, "TrialEnded") >= NUM_TRIALS

    def _interrupt(self, driver: psutil.Process) -> None:
        self._wait_for_more("TrialReported", 2, driver)
        driver.send_signal(signal.SIGINT)

    def _kill(self, moment: Moment, driver: psutil.Process) -> None:
        if moment == "start-up":
            time.sleep(self._random.uniform(0, 3))  # less than it takes to start Ray
        elif moment == "search":
            self._wait_for_more("TrialStarted", 1, driver)
            self._wait_for_more("TrialReported", self._random.randint(0, self._share()), driver)
            time.sleep(self._random.uniform(0, 0.5))
        else:
            self._wait_for_more("SweepResumed", 1, driver)
            wait_for(lambda: self._is_searched() or is_dead(driver), timeout_s=200)
            self._wait_for_more("PointEvaluated", self._random.randint(0, 1), driver)
            time.sleep(self._random.uniform(0, 0.5))
        with contextlib.suppress(psutil.NoSuchProcess):
            driver.send_signal(signal.SIGKILL)

    def _share(self) -> int:
        """Of the reports to come, what there is for each search that is yet to be killed."""
        num_trials = NUM_TRIALS - num_lines(self._ledger, "TrialEnded")
        num_kills = self._moments.count("search") - self.hits.count("search")
        return 3 * num_trials // num_kills  # of the trials' four, since some are stopped early

    def _wait_for_more(self, kind: str, num_events: int, driver: psutil.Process) -> None:
        """Waits until the driver has written so many events of a kind, or has ended by itself."""
        wanted = num_lines(self._ledger, kind) + num_events
        wait_for(lambda: num_lines(self._ledger, kind) >= wanted or is_dead(driver))


class Killed(NamedTuple):
    """The lives of the sweep that was killed again and again.

    Attributes:
        interrupted: the one that was interrupted.
        last: the one that came to the end.
        left: the processes of Ray that were left some time after the last kill, but for Ray's agents,
            which wait a minute for a head that is gone.
    """

    interrupted: SweepRun
    last: SweepRun
    left: set[int]


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    """The same sweep, its driver killed again and again, then resumed to its end."""
    before = ray_processes()
    killer = Killer(tmp_path_factory.mktemp("killed"), "killed", NUM_KILLS)
    killer.kill_all()
    print(f"{len(killer.hits)} kills: {dict(Counter(killer.hits))}")
    with contextlib.suppress(AssertionError):
        wait_for(lambda: not _without_agents(ray_processes() - before), timeout_s=20)
    left = _without_agents(ray_processes() - before)
    sweep = killer.live()
    assert sweep.returncode == 0, sweep.stderr
    assert len(killer.hits) == NUM_KILLS
    assert set(killer.hits) == {"start-up", "search", "evaluation"}
    return Killed(killer.interrupted, sweep, left)


def _without_agents(pids: set[int]) -> set[int]:
    agents = set()
    for pid in pids:
        try:
            if "Agent" in " ".join(psutil.Process(pid).cmdline()):
                agents.add(pid)
        except psutil.NoSuchProcess:
            agents.add(pid)
    return pids - agents


@pytest.fixture(scope="module")
def killed(lives: Killed) -> SweepRun:
    return lives.last


def test_killed_drivers_leave_nothing_that_runs(lives: Killed) -> None:
    assert not lives.left


def test_a_killed_sweep_ends_as_one_that_was_never_killed(
    uninterrupted: SweepRun, killed: SweepRun
) -> None:
    assert stories(killed) == stories(uninterrupted)
    fronts = [[(p.trial, p.epoch, p.values) for p in s.record.front] for s in (killed, uninterrupted)]
    assert fronts[0] == fronts[1]
    settings = load_settings(killed.paths.settings)
    study = Proposals(settings, known_trials(settings, killed.events))
    assert set(study.states().values()) == {"COMPLETE"}


def test_a_killed_sweep_stops_trials_early_as_the_other_does(
    uninterrupted: SweepRun, killed: SweepRun
) -> None:
    statuses = [Counter(t.status for t in s.record.trials.values()) for s in (killed, uninterrupted)]
    assert statuses[0] == statuses[1]
    assert statuses[0]["stopped"], "the rule has stopped nobody, so this shows nothing"


def test_mlflow_agrees_with_the_ledger_of_a_killed_sweep(killed: SweepRun) -> None:
    record, children = killed.record, killed.children
    assert len(killed.runs()) == len(record.trials) + 1
    assert killed.parent.info.status == "FINISHED"
    for trial in record.trials.values():
        run = children[trial.name]
        assert run.info.status == {"completed": "FINISHED", "stopped": "KILLED"}[trial.status]
        assert run.data.tags["status"] == trial.status
        history = killed.client.get_metric_history(run.info.run_id, "d_eff")
        assert [(m.step, m.value) for m in history] == [
            (p.epoch, p.metrics["d_eff"]) for p in trial.points
        ]
        at = {p.epoch for p in record.front if p.trial == trial.name}
        stored = killed.client.list_artifacts(run.info.run_id, "snapshots")
        assert {int(a.path.rsplit("-", 1)[1]) for a in stored} == at


def test_mlflow_alone_tells_the_story(killed: SweepRun) -> None:
    assert_mlflow_tells_the_story(killed)


def test_the_folder_of_a_killed_sweep_holds_the_fronts_snapshots_only(killed: SweepRun) -> None:
    stored = {key for trial in killed.record.trials for key in killed.paths.stored_snapshots(trial)}
    assert stored == {(p.trial, p.epoch) for p in killed.record.front}


def test_a_finished_sweep_with_a_torn_ledger_is_extended(killed: SweepRun) -> None:
    killed.paths.ledger.write_bytes(killed.paths.ledger.read_bytes() + TORN)
    longer = run_sweep(killed.folder, "killed", "--trials", "9", file=RESUMABLE, resumed=True)
    assert longer.returncode == 0, longer.stderr
    assert "going on after 8 of 9 trials" in longer.stdout
    assert "cut short" in longer.stderr + longer.paths.log.read_text()
    assert len(longer.record.trials) == 9
    assert longer.children["trial-0008"].info.status in ("FINISHED", "KILLED")


def test_an_interrupted_sweep_goes_on_with_its_unfinished_trials(lives: Killed) -> None:
    cut = lives.interrupted
    assert cut.returncode == 130
    assert "interrupted by SIGINT" in cut.stdout
    interrupted = {
        e.trial for e in cut.events if isinstance(e, TrialEnded) and e.status == "interrupted"
    }
    assert interrupted
    assert {lives.last.record.trials[name].status for name in interrupted} <= {"completed", "stopped"}


def test_a_changed_file_is_refused_with_the_difference(killed: SweepRun) -> None:
    before = killed.paths.ledger.read_bytes()
    refused = resume(killed.folder, "killed", "--set", "trial.temperature=0.2", "--trials", "9")
    assert refused.returncode == 2
    assert "trial.temperature: 0.1 before, 0.2 now" in refused.stderr
    assert "search.trials" not in refused.stderr
    assert killed.paths.ledger.read_bytes() == before


def test_a_damaged_ledger_is_an_error_that_names_the_line(killed: SweepRun) -> None:
    whole = killed.paths.ledger.read_bytes()
    lines = whole.splitlines(keepends=True)
    # Which event it holds depends on the moments of the kills; each has a time.
    lines[3] = lines[3].replace(b'"time":', b'"Time":')
    assert b"".join(lines) != whole
    killed.paths.ledger.write_bytes(b"".join(lines))
    refused = resume(killed.folder, "killed", "--trials", "9")
    killed.paths.ledger.write_bytes(whole)
    assert refused.returncode == 2
    assert "ledger.jsonl:4: the ledger is damaged here" in refused.stderr
