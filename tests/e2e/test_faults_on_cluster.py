"""One sweep to which everything happens that can happen to trials on a cluster, one thing after another;
then it loses its driver's node, and is resumed elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from clusters import NodeCluster
from resumable_sweeps import is_dead, next_report_s, num_lines, stories
from sweep_runs import SweepRun, run_sweep, wait_for
from tracked_story import assert_mlflow_tells_the_story

from orchestrator.events import Event, TrialProposed, TrialReported, TrialRetried, TrialStarted
from orchestrator.ledger import LedgerReader
from orchestrator.retention import RetentionRule, wanted_snapshots
from trainables.checkpoint import CheckpointError, CheckpointFile

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
HUNG_S, CUT_S, NO_NODE_S = 60, 6, 8
SETTINGS = (
    "resources.max_concurrent=2", "trial.data={num_training_items: null}", "trial.batch_size=128",
    "trial.epochs=200", "trial.validate_every=5", "trial.patience_epochs=null", "checkpoint_every=0.05s",
    f"trial_timeout={HUNG_S}s", "max_retries=9", "search.sampler=list",
    "first_trials=[{head.kind: none}, {head.kind: mlp}]",
)  # fmt: skip
ARGUMENTS = tuple(part for setting in SETTINGS for part in ("--set", setting))
CAUSES = {
    "cut storage": ("OSError: ", "FileNotFoundError: "),
    "preempted node": "its node was preempted",
    "lost nodes": "its process ",
    "killed process": "its process died: ",
    "hung process": f"it hung: no report for {HUNG_S} s (trial_timeout), so it was killed",
}
LOST = "the Ray node that this driver works on died"


class Batterer:
    """Does one thing after another to a running sweep, each time until its trials go on.

    Attributes:
        happened: the events from each fault to the report after it, by name.
        trained: how far the checkpoints of each trial were, in order.
    """

    def __init__(self, storage: Path, cluster: NodeCluster) -> None:
        self.trained: dict[str, list[tuple[bool, int]]] = {}
        self._storage = storage
        self._cluster = cluster
        self._ledger = LedgerReader(storage / "battered" / "ledger.jsonl")
        self.happened: dict[str, list[Event]] = {}

    def __call__(self, driver: psutil.Process) -> None:
        self._driver = driver
        ledger = self._storage / "battered" / "ledger.jsonl"
        wait_for(lambda: self._goes_on() and num_lines(ledger, "TrialReported") >= 4)
        self._do("cut storage", self._cut_storage)
        self._do("preempted node", self._cluster.preempt_node, self._cluster.add_node)
        self._do("lost nodes", self._cluster.kill_nodes, self._add_nodes)
        self._do("killed process", lambda: self._cluster.training_process().kill())
        self._do("hung process", self._cluster.pause_training)
        self._cluster.pause_training()  # or the sweep could be over first
        self._cluster.kill_agent_of_head()

    def _do(self, name: str, fault: Callable[[], None], then: Callable[[], None] = lambda: None) -> None:
        """`then` happens once the sweep has noticed the fault."""
        self._ledger.read()
        events = self.happened[name] = []
        begun = time.time()
        fault()
        wait_for(lambda: self._goes_on() and self._retried(events))
        then()
        retried, reported = wait_for(lambda: self._goes_on() and self._gone_on(events))
        noticed_s, reported_s = retried.time - begun, reported.time - begun
        print(
            f"{name}: noticed after {noticed_s:.1f} s, the trial's next report after {reported_s:.1f} s"
        )

    def _add_nodes(self) -> None:
        """Two, some time after there was none."""
        time.sleep(NO_NODE_S)
        self._cluster.add_node()
        self._cluster.add_node()

    def _goes_on(self) -> bool:
        assert not is_dead(self._driver), "the sweep ended"
        return True

    def _retried(self, events: list[Event]) -> dict[str, TrialRetried]:
        """The first end of an attempt of each trial that had one."""
        with contextlib.suppress(FileNotFoundError):  # while the storage is away
            events += self._ledger.read()
        self._look_at_checkpoints()
        retries = [event for event in events if isinstance(event, TrialRetried)]
        return {event.trial: event for event in reversed(retries)}

    def _gone_on(self, events: list[Event]) -> tuple[TrialRetried, TrialReported] | None:
        """The end of an attempt and the trial's first report after it, once there are both."""
        retried = self._retried(events)
        for event in events:
            if not isinstance(event, TrialReported) or event.trial not in retried:
                continue
            if event.time > retried[event.trial].time:
                return retried[event.trial], event
        return None

    def _look_at_checkpoints(self) -> None:
        for path in self._storage.glob("battered/checkpoints/*/state.pt"):
            with contextlib.suppress(CheckpointError):  # another one took its place meanwhile
                progress = CheckpointFile(path, 0.0).read()["progress"]
                place = (progress["phase"] == "main", progress["epoch"])
                self.trained.setdefault(path.parent.name, []).append(place)

    def _cut_storage(self) -> None:
        """Puts a disk that nothing can be written to in the storage's place, for a while."""
        mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(self._storage)]
        fault = subprocess.run(mount, capture_output=True, text=True, check=False).stderr
        if fault:
            pytest.skip(f"needs to cut off a storage, and this user may not mount a disk: {fault}")
        time.sleep(CUT_S)
        subprocess.run(["umount", "--lazy", str(self._storage)], check=True)


@dataclass
class Battered:
    """What became of the sweep.

    Attributes:
        happened, trained: as `Batterer` saw them.
        cut: the driver whose node was lost.
        resumed: the driver that went on to the end.
    """

    happened: dict[str, list[Event]]
    trained: dict[str, list[tuple[bool, int]]]
    cut: SweepRun
    resumed: SweepRun


@pytest.fixture(scope="module")
def cluster() -> Iterator[NodeCluster]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in TOKEN.items():
            patch.setenv(name, value)  # the driver's too
        cluster = NodeCluster(2, os.environ)
        yield cluster
        cluster.close()


@pytest.fixture(scope="module")
def battered(cluster: NodeCluster, tmp_path_factory: pytest.TempPathFactory) -> Battered:
    folder = tmp_path_factory.mktemp("battered")
    batterer = Batterer(folder / "runs", cluster)
    address = ("--address", cluster.address)
    cut = run_sweep(folder, "battered", *ARGUMENTS, *address, while_running=batterer)
    print(cut.stdout, cut.stderr)
    begun = time.time()
    resumed = run_sweep(folder, "battered", *ARGUMENTS, resumed=True)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    print(f"resumed: the next report after {next_report_s(resumed, begun):.1f} s")
    return Battered(batterer.happened, batterer.trained, cut, resumed)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> SweepRun:
    """The same sweep, to which nothing happens."""
    sweep = run_sweep(tmp_path_factory.mktemp("whole"), "whole", *ARGUMENTS)
    assert sweep.returncode == 0, sweep.stdout + sweep.stderr
    return sweep


@pytest.mark.parametrize("fault", CAUSES)
def test_a_trial_goes_on_with_the_cause_written_down(fault: str, battered: Battered) -> None:
    retries = [event for event in battered.happened[fault] if isinstance(event, TrialRetried)]
    assert retries[0].reason.startswith(CAUSES[fault])
    assert retries[0].is_counted == (fault != "preempted node")
    assert f"{retries[0].trial}: " in battered.cut.stdout


def test_what_was_trained_is_not_trained_again(battered: Battered) -> None:
    assert len(battered.trained) == 2
    for places in battered.trained.values():
        assert places == sorted(places)
        assert len(set(places)) > len(CAUSES)


def test_the_loss_of_the_drivers_node_ends_the_sweep_with_all_it_has(battered: Battered) -> None:
    cut = battered.cut
    assert cut.returncode == 1
    assert "failed after" in cut.stdout and LOST in cut.stdout
    assert "Traceback" not in cut.stdout + cut.stderr


def test_a_sweep_without_nodes_waits_for_others_to_join(battered: Battered) -> None:
    waits = "the cluster has 1 node now, and no trial fits: waiting for others to join"
    goes_on = "the cluster has 3 nodes now, for 2 trials at once"
    assert 0 <= battered.cut.stdout.find(waits) < battered.cut.stdout.rfind(goes_on)


def test_every_trial_ends_as_if_nothing_had_happened(battered: Battered, whole: SweepRun) -> None:
    assert stories(battered.resumed) == stories(whole)


def test_trials_that_fit_at_once_start_side_by_side(whole: SweepRun) -> None:
    kinds = [e for e in whole.events if isinstance(e, (TrialProposed, TrialStarted))]
    num_proposed = next(n for n, event in enumerate(kinds) if isinstance(event, TrialStarted))
    assert num_proposed == min(2, os.cpu_count() or 1)


def test_no_epoch_is_reported_twice_and_none_is_missing(battered: Battered) -> None:
    reported: dict[str, list[int]] = {}
    for event in battered.resumed.events:
        if isinstance(event, TrialReported):
            reported.setdefault(event.trial, []).append(event.report["epoch"])
    assert reported == {name: list(range(5, 201, 5)) for name in ("trial-0000", "trial-0001")}


def test_mlflow_and_the_ledger_agree(battered: Battered) -> None:
    assert_mlflow_tells_the_story(battered.resumed)
    statuses = {run.info.status for run in battered.resumed.runs()}
    assert statuses == {"FINISHED"}


def test_the_folder_holds_the_fronts_snapshots_and_no_checkpoint(battered: Battered) -> None:
    resumed = battered.resumed
    stored = {key for trial in resumed.record.trials for key in resumed.paths.stored_snapshots(trial)}
    assert stored == wanted_snapshots(resumed.record, RetentionRule())
    assert list(resumed.paths.root.glob("checkpoints/*")) == []
