"""A sweep whose storage is an S3 server: its driver is killed and goes on as on another machine, the
server is away for a while, and nothing is lost.
"""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from object_store import ObjectStore
from resumable_sweeps import num_lines
from sweep_runs import EVALUATED, SweepRun, run_sweep, wait_for
from tracked_story import assert_mlflow_tells_the_story

from orchestrator.events import SweepEnded, SweepResumed, TrialEnded, TrialProposed
from orchestrator.export import main as export
from orchestrator.paths import SweepPaths
from trainables.snapshots import read_snapshot

pytestmark = pytest.mark.slow

STORAGE = "s3://sweeps/runs"
NAME = "away"
LONGER = ("--set", "trial.epochs=20", "--set", "search.trials=5", "--set", "checkpoint_every=1s")
AWAY_S = 6.0


class StoredSweep(SweepRun):
    """A sweep at the URL, as the machine with the cache of this process has it."""

    @property
    def paths(self) -> SweepPaths:
        return SweepPaths.of(STORAGE, self.name)


def run(
    folder: Path,
    name: str,
    *arguments: str,
    resumed: bool = False,
    while_running: Callable[[psutil.Process], None] | None = None,
) -> StoredSweep:
    at_url = ("--set", f"storage={STORAGE}", *EVALUATED)
    sweep = run_sweep(folder, name, *at_url, *arguments, resumed=resumed, while_running=while_running)
    return StoredSweep(**vars(sweep))


@pytest.fixture(scope="module")
def environment() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def store(environment: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    store = ObjectStore()
    for name, value in store.environment.items():
        environment.setenv(name, value)
    yield store
    store.stop()


@pytest.fixture(scope="module")
def ended(
    store: ObjectStore, environment: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> StoredSweep:
    """A sweep whose store was away twice; its driver was killed meanwhile, and another one went on from
    what is at the URL.
    """
    folder = tmp_path_factory.mktemp("stored")
    environment.setenv("MONOCON_CACHE", str(folder / "machine-1"))
    ledger = SweepPaths.of(STORAGE, NAME).ledger

    def kill_while_the_store_is_away(driver: psutil.Process) -> None:
        wait_for(lambda: num_lines(ledger, "TrialReported"))
        store.stop()
        time.sleep(AWAY_S)
        store.start()
        wait_for(lambda: num_lines(ledger, "TrialEnded") > 1)
        wait_for(lambda: any(name.startswith("ledger/") for name in store.names(f"runs/{NAME}/")))
        store.stop()
        time.sleep(2)
        driver.send_signal(signal.SIGKILL)
        store.start()

    killed = run(folder, NAME, *LONGER, while_running=kill_while_the_store_is_away)
    assert killed.returncode == -signal.SIGKILL
    environment.setenv("MONOCON_CACHE", str(folder / "machine-2"))
    refused = run(folder, NAME, *LONGER, resumed=True)
    assert refused.returncode == 2
    found = re.search(r"a driver on .* works on this sweep.*try again in (\d+) s", refused.stderr)
    assert found, refused.stderr
    time.sleep(int(found[1]) + 1)
    sweep = run(folder, NAME, *LONGER, resumed=True)
    assert sweep.returncode == 0, sweep.stderr
    return sweep


def test_a_sweep_goes_on_on_another_machine(ended: StoredSweep) -> None:
    events = ended.events
    assert [event.status for event in events if isinstance(event, SweepEnded)] == ["completed"]
    assert sum(isinstance(event, SweepResumed) for event in events) == 1
    proposed = [event.trial for event in events if isinstance(event, TrialProposed)]
    assert proposed == [f"trial-{number:04d}" for number in range(5)]
    over = [event.trial for event in events if isinstance(event, TrialEnded)]
    assert sorted(over) == proposed  # each once


def test_a_store_that_is_away_costs_no_trial(ended: StoredSweep) -> None:
    failed = [trial for trial in ended.record.trials.values() if trial.status == "failed"]
    assert [trial.name for trial in failed] == ["trial-0003"]
    assert failed[0].reason.startswith("DivergedError")
    for trial in ended.record.trials.values():
        epochs = [point.epoch for point in trial.points]
        assert epochs == [3, 6, 9, 12, 15, 18, 20][: len(epochs)]
        assert epochs or trial in failed


def test_at_the_url_are_exactly_the_fronts_snapshots(ended: StoredSweep, store: ObjectStore) -> None:
    names = store.names(f"runs/{NAME}/")
    front = {(point.trial, point.epoch) for point in ended.record.front}
    folders = {f"{trial}/epoch-{epoch:04d}" for trial, epoch in front}
    for kind, completing in (("snapshots", "snapshot.json"), ("evaluations", "summary.json")):
        stored = {tuple(name.split("/")[1:3]) for name in names if name.startswith(f"{kind}/")}
        assert {"/".join(folder) for folder in stored} == folders
        assert all(f"{kind}/{folder}/{completing}" in names for folder in folders)
    assert not [name for name in names if name.startswith("checkpoints/")]
    assert {name for name in names if "/" not in name} == {"ledger.jsonl", "sweep.yaml", "sweep.log"}


def test_the_ledger_at_the_url_is_that_of_the_driver(ended: StoredSweep, store: ObjectStore) -> None:
    copy = store.client.get_object(Bucket="sweeps", Key=f"runs/{NAME}/ledger.jsonl")["Body"].read()
    assert copy == ended.paths.ledger.read_bytes()
    assert not [name for name in store.names(f"runs/{NAME}/") if name.startswith("ledger/")]


def test_mlflow_agrees_with_the_ledger(ended: StoredSweep) -> None:
    assert_mlflow_tells_the_story(ended)
    assert len(ended.runs()) == len(ended.record.trials) + 1
    for trial in ended.record.trials.values():
        run_id = ended.children[trial.name].info.run_id
        history = ended.client.get_metric_history(run_id, "d_eff")
        assert [(metric.step, metric.value) for metric in history] == [
            (point.epoch, point.metrics["d_eff"]) for point in trial.points
        ]
        at = {point.epoch for point in ended.record.front if point.trial == trial.name}
        stored = ended.client.list_artifacts(run_id, "snapshots")
        assert {int(artifact.path.rsplit("-", 1)[1]) for artifact in stored} == at


def test_the_picked_model_is_read_from_where_the_summary_says(ended: StoredSweep) -> None:
    place = re.search(rf"picked .*, in ({STORAGE}/{NAME}/snapshots/\S+)", ended.stdout)
    assert place, ended.stdout
    picked = ended.record.front.picked
    assert picked is not None
    assert read_snapshot(place[1]).report.metrics == picked.metrics
    assert f"folder:            {STORAGE}/{NAME}" in ended.stdout


def test_points_have_pages_with_what_is_at_the_url(ended: StoredSweep) -> None:
    (trial, epoch), *_ = sorted(ended.record.evaluations)
    run_id = ended.children[trial].info.run_id
    artifacts = ended.client.list_artifacts(run_id, f"evaluations/epoch-{epoch:04d}")
    assert {"report.html", "summary.json"} <= {artifact.path.split("/")[-1] for artifact in artifacts}
    assert ended.client.list_artifacts(run_id, "traces")


def test_it_is_exported_and_imported_by_its_url(
    ended: StoredSweep, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment.setenv("MONOCON_CACHE", str(tmp_path / "machine-3"))
    file = tmp_path / "study.log"
    assert export([f"{STORAGE}/{NAME}", "--to", str(file)]) == 0
    assert file.read_text().count('"op_code"') > 5
    shown = run(tmp_path, "shown", *LONGER, "--import", NAME, "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert re.search(r"away.*\b4\b", shown.stdout), shown.stdout


def _read_only(store: ObjectStore) -> None:
    store.client.create_bucket(Bucket="read-only")
    resource = "arn:aws:s3:::read-only/*"
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": resource}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [deny]})
    store.client.put_bucket_policy(Bucket="read-only", Policy=policy)


REFUSALS = {
    "no bucket": ("s3://absent/runs", "s3://absent/runs/refused: The specified bucket does not exist"),
    "no right": ("s3://read-only/runs", "s3://read-only/runs/refused/driver.json cannot be written"),
    "no package": ("gs://bucket/runs", "gs:// needs a package that is not here: pip install gcsfs"),
    "password": ("s3://user:password@bucket/runs", "give it by the environment"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_storage_that_cannot_be_used_is_refused_before_ray_starts(
    case: str, store: ObjectStore, tmp_path: Path
) -> None:
    storage, message = REFUSALS[case]
    if case == "no right":
        _read_only(store)
    sweep = run_sweep(tmp_path, "refused", "--set", f"storage={storage}", has_store=False)
    assert sweep.returncode == 2
    assert sweep.stderr.startswith(f"--set storage={storage}")
    assert message in sweep.stderr
    assert "starting Ray" not in sweep.stdout
    assert "Traceback" not in sweep.stderr + sweep.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_taken_name_is_refused(ended: StoredSweep) -> None:
    again = run(ended.folder, NAME)
    assert again.returncode == 2
    assert f"{STORAGE}/{NAME} already holds a sweep" in again.stderr
