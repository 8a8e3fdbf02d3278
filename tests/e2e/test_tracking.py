"""The tracker against a real MLflow server that goes away for a while. No Ray."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from servers import free_port, is_healthy, wait_for
from sweep_runs import TINY

from orchestrator.events import (
    Event,
    PointEvaluated,
    SweepEnded,
    SweepStarted,
    TrialEnded,
    TrialProposed,
    TrialReported,
)
from orchestrator.mlflow_runs import MlflowRuns
from orchestrator.pages import DESCRIPTION, SWEEP_PAGE, Links
from orchestrator.paths import SweepPaths
from orchestrator.record import SweepRecord
from orchestrator.retention import RetentionRule
from orchestrator.search_space import to_trial_config
from orchestrator.settings import SweepSettings, load_settings
from orchestrator.settings_text import to_yaml
from orchestrator.tracking import Tracker
from orchestrator.tracking_check import check_tracking
from orchestrator.trials import Trial
from trainables.reports import METRICS, EpochReport

pytestmark = pytest.mark.slow


class Server:
    """An MLflow tracking server on loopback that can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port),
             "--backend-store-uri", f"sqlite:///{self.folder}/server.db", "--workers", "1",
             "--artifacts-destination", str(self.folder / "artifacts")],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        wait_for(lambda: is_healthy(self.uri))

    def stop(self) -> None:
        import os
        import signal

        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    server.start()
    yield server
    server.stop()


class OnePage:
    """Stands for `Pages`: there is no ledger to draw from."""

    def draw_sweep(self, into: Path, links: Links, experiment_id: str) -> None:
        (into / SWEEP_PAGE).write_text(links["runs"] if links else "")
        (into / DESCRIPTION).write_text("a description")

    def draw_point(self, trial: str, epoch: int, into: Path, links: Links) -> None:
        (into / SWEEP_PAGE).write_text(f"{trial}, {epoch}")


def open_tracker(
    settings: SweepSettings, sweep: str, paths: SweepPaths, environment: dict[str, str]
) -> Tracker:
    runs = MlflowRuns(
        MlflowClient(settings.tracking.uri),
        settings,
        sweep,
        sweep,
        environment,
        lambda trial, run_id: None,
    )
    runs.open(to_yaml(settings))
    return Tracker(runs, paths, RetentionRule(), OnePage())


def _report(epoch: int, accuracy: float) -> dict[str, object]:
    metrics = dict.fromkeys(METRICS, 1.0) | {"knn_accuracy": accuracy, "d_eff": float(epoch)}
    training = {epoch: {"train_loss": 1.0, "no_positive_share": 0.0, "epoch_time_s": 0.1}}
    return EpochReport(epoch, metrics, training).to_dict()


def test_server_that_goes_away_loses_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    settings = load_settings(TINY, [f"tracking.uri={server.uri}", f"storage={tmp_path}/runs"])
    check_tracking(settings.tracking.uri)
    paths = SweepPaths.of(settings.storage, "outage")
    paths.root.mkdir(parents=True)
    paths.settings.write_text(to_yaml(settings))
    record = SweepRecord.of(settings)
    tracker = open_tracker(settings, "outage", paths, {"ray": "2"})

    def emit(event: Event) -> None:
        record.apply(event)
        tracker(event, record)

    config = to_trial_config(settings.trial, {}).model_dump()
    emit(SweepStarted("outage", {}, {}, time.time()))
    for number in range(3):
        trial = f"trial-{number:04d}"
        emit(TrialProposed(trial, number, {"temperature": 0.1}, config, time.time()))
        if number == 1:
            server.stop()
        emit(TrialReported(trial, _report(number + 1, 0.5 + number / 10), time.time()))
        folder = Path(paths.snapshot(trial, number + 1))
        folder.mkdir(parents=True)
        (folder / "snapshot.json").write_text("{}")
        emit(TrialEnded(trial, "completed", "", time.time()))
    emit(SweepEnded("completed", "all 3 trials ended", time.time()))
    server.start()

    returned = time.monotonic()
    assert tracker.close(patience_s=60) == 0
    print(f"all was written {time.monotonic() - returned:.1f} s after the server answered again")
    assert tracker.num_refused == 0
    client = MlflowClient(server.uri)
    found = client.search_runs([tracker.runs.experiment_id])
    runs = {run.info.run_name: run for run in found}
    assert set(runs) == {"outage", "trial-0000", "trial-0001", "trial-0002"}
    assert len(found) == 4
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    for number in range(3):
        run_id = runs[f"trial-{number:04d}"].info.run_id
        history = client.get_metric_history(run_id, "knn_accuracy")
        assert [(m.step, m.value) for m in history] == [(number + 1, 0.5 + number / 10)]
        assert client.list_artifacts(run_id, f"snapshots/epoch-{number + 1:04d}")
    assert SWEEP_PAGE in [a.path for a in client.list_artifacts(tracker.runs.run_id)]


def test_snapshot_that_leaves_the_front_leaves_mlflow_too(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    settings = load_settings(TINY, [f"tracking.uri={uri}", f"storage={tmp_path}/runs"])
    paths = SweepPaths.of(settings.storage, "leaves")
    paths.root.mkdir(parents=True)
    paths.settings.write_text(to_yaml(settings))
    record = SweepRecord.of(settings)
    tracker = open_tracker(settings, "leaves", paths, {})
    for number, accuracy in enumerate([0.5, 0.9]):
        trial = f"trial-{number:04d}"
        folder = Path(paths.snapshot(trial, 5))
        folder.mkdir(parents=True)
        (folder / "weights.safetensors").write_bytes(b"weights")
        for event in (
            TrialProposed(trial, number, {}, settings.trial.model_dump(), 0.0),
            TrialReported(trial, _report(5, accuracy), 0.0),
            TrialEnded(trial, "completed", "", 0.0),
        ):
            record.apply(event)
            tracker(event, record)
    assert tracker.close(patience_s=30) == 0
    client = MlflowClient(uri)
    runs = {
        run.info.run_name: run.info.run_id for run in client.search_runs([tracker.runs.experiment_id])
    }
    assert client.list_artifacts(runs["trial-0000"], "snapshots/epoch-0005") == []
    assert len(client.list_artifacts(runs["trial-0001"], "snapshots/epoch-0005")) == 1


def test_answer_that_is_lost_makes_no_second_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    settings = load_settings(TINY, [f"tracking.uri={uri}", f"storage={tmp_path}/runs"])
    paths = SweepPaths.of(settings.storage, "lost")
    paths.root.mkdir(parents=True)
    paths.settings.write_text(to_yaml(settings))
    record = SweepRecord.of(settings)
    tracker = open_tracker(settings, "lost", paths, {})
    create_run = MlflowClient.create_run
    lost = iter([True])

    def create_and_lose(self: MlflowClient, *args: Any, **kwargs: Any) -> Run:
        run = create_run(self, *args, **kwargs)
        if next(lost, False):
            raise ConnectionError("the answer was lost")
        return run

    monkeypatch.setattr(MlflowClient, "create_run", create_and_lose)
    event = TrialProposed("trial-0000", 0, {}, settings.trial.model_dump(), 0.0)
    record.apply(event)
    tracker(event, record)
    assert tracker.close(patience_s=30) == 0
    names = [run.info.run_name for run in MlflowClient(uri).search_runs([tracker.runs.experiment_id])]
    assert sorted(map(str, names)) == ["lost", "trial-0000"]


def test_unwritten_operations_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    settings = load_settings(TINY, [f"tracking.uri={uri}", f"storage={tmp_path}/runs"])
    paths = SweepPaths.of(settings.storage, "unwritten")
    paths.root.mkdir(parents=True)
    paths.settings.write_text(to_yaml(settings))
    tracker = open_tracker(settings, "unwritten", paths, {})
    record = SweepRecord.of(settings)

    def dead(*args: Any, **kwargs: Any) -> Run:
        raise ConnectionError("no server")

    monkeypatch.setattr(MlflowClient, "create_run", dead)
    for number in range(2):
        event = TrialProposed(f"trial-{number:04d}", number, {}, settings.trial.model_dump(), 0.0)
        record.apply(event)
        tracker(event, record)
    assert tracker.close(patience_s=1) == 2


@pytest.mark.parametrize("number", [0, 1], ids=["it left the front", "it is on the front"])
def test_snapshot_that_is_gone_is_missed_only_where_it_is_wanted(tmp_path: Path, number: int) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    settings = load_settings(TINY, [f"tracking.uri={uri}", f"storage={tmp_path}/runs"])
    paths = SweepPaths.of(settings.storage, "gone")
    paths.root.mkdir(parents=True)
    paths.settings.write_text(to_yaml(settings))
    record = SweepRecord.of(settings)
    tracker = open_tracker(settings, "gone", paths, {})
    for index, accuracy in enumerate([0.5, 0.9]):
        trial = f"trial-{index:04d}"
        if index != number:
            Path(paths.snapshot(trial, 5)).mkdir(parents=True)
        record.apply(TrialProposed(trial, index, {}, settings.trial.model_dump(), 0.0))
        record.apply(TrialReported(trial, _report(5, accuracy), 0.0))
        tracker(TrialProposed(trial, index, {}, settings.trial.model_dump(), 0.0), record)
    for index in range(2):
        event = TrialEnded(f"trial-{index:04d}", "completed", "", 0.0)
        record.apply(event)
        tracker(event, record)
    assert tracker.close(patience_s=30) == 0
    assert tracker.num_refused == number


def test_what_a_storage_that_is_away_holds_is_sent_once_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = load_settings(
        TINY, [f"tracking.uri=sqlite:///{tmp_path}/mlflow.db", f"storage={tmp_path}/runs"]
    )
    paths = SweepPaths.of(settings.storage, "away")
    Path(paths.snapshot("trial-0000", 5)).mkdir(parents=True)
    Path(paths.snapshot("trial-0000", 5), "snapshot.json").write_text("{}")
    for place, name in (
        (paths.evaluation("trial-0000", 5), "summary.json"),
        (paths.traces("trial-0000"), "epoch-0005.npz"),
    ):
        Path(place).mkdir(parents=True)
        Path(place, name).write_text("{}")
    paths.settings.write_text(to_yaml(settings))
    record = SweepRecord.of(settings)
    tracker = open_tracker(settings, "away", paths, {})
    proposed = TrialProposed("trial-0000", 0, {}, settings.trial.model_dump(), 0.0)
    for event in (proposed, TrialReported("trial-0000", _report(5, 0.5), 0.0)):
        record.apply(event)
        tracker(event, record)
    away = paths.root.rename(tmp_path / "away")
    ended = TrialEnded("trial-0000", "completed", "", 0.0)
    evaluated = PointEvaluated("trial-0000", 5, {"test_d_eff": 5.0}, 0.0)
    for event in (ended, evaluated):
        record.apply(event)
        tracker(event, record)
    wait_for(lambda: "MLflow does not take an operation" in caplog.text)
    away.rename(paths.root)
    assert tracker.close(patience_s=30) == 0
    assert tracker.num_refused == 0
    client, run_id = MlflowClient(settings.tracking.uri), tracker.runs.run_ids["trial-0000"]
    assert client.list_artifacts(run_id, "snapshots/epoch-0005")
    evaluation = "evaluations/epoch-0005"
    assert f"{evaluation}/summary.json" in {f.path for f in client.list_artifacts(run_id, evaluation)}
    assert [file.path for file in client.list_artifacts(run_id, "traces")] == ["traces/epoch-0005.npz"]


def test_a_run_that_a_killed_driver_had_no_time_to_note_is_noted(tmp_path: Path) -> None:
    settings = load_settings(TINY, [f"tracking.uri=sqlite:///{tmp_path}/mlflow.db"])
    notes: dict[str, str] = {}

    def open_runs() -> MlflowRuns:
        client = MlflowClient(settings.tracking.uri)
        runs = MlflowRuns(client, settings, "s", "s", {}, notes.__setitem__)
        runs.open(to_yaml(settings))
        return runs

    config = settings.trial.model_dump(mode="json")
    open_runs().create_child(Trial("trial-0000", 0, {}, config), 0.0)
    before = dict(notes)
    assert before.keys() == {"", "trial-0000"}
    notes.clear()
    open_runs()
    assert notes == before
