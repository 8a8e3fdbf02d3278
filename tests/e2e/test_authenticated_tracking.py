"""A sweep against an MLflow server behind basic auth: it works, and its secrets are nowhere but in the
environment. The same sweep shows what of it can be reached, and from where.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests
from authenticated_server import AuthenticatedServer, credentials, new_password
from mlflow import MlflowClient
from mlflow.entities import Run
from sweep_runs import EVALUATED, TINY, SweepRun, command, run_sweep, wait_for

from dashboards import compare, report, serve, tables
from orchestrator.operation_queue import OperationQueue

pytestmark = pytest.mark.slow
NAME = "behind-a-password"


class Observation:
    """What the processes of a running sweep show to others; a `while_running` of `run_sweep`.

    Attributes:
        commands: their command lines.
        listening: process and address that it listens on.
        ray_token: the token of the sweep's own Ray.
        session: the folder of that Ray.
    """

    def __init__(self) -> None:
        self.commands: set[str] = set()
        self.listening: set[tuple[str, str]] = set()
        self.ray_token = ""
        self.session = Path()

    def __call__(self, driver: psutil.Process) -> None:
        while driver.is_running() and driver.status() != psutil.STATUS_ZOMBIE:
            for process in [driver, *driver.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    self._look(process)
            time.sleep(0.2)

    def _look(self, process: psutil.Process) -> None:
        words = process.cmdline()
        self.commands.add(" ".join(words))
        name = process.name()
        for connection in process.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN:
                self.listening.add((name, connection.laddr.ip))
        if name == "raylet":
            self.ray_token = process.environ().get("RAY_AUTH_TOKEN", "")
            place = next(word for word in words if word.startswith("--session_dir="))
            self.session = Path(place.partition("=")[2])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuthenticatedServer]:
    running = AuthenticatedServer(tmp_path_factory.mktemp("server"))
    yield running
    running.stop()


@pytest.fixture(scope="module", autouse=True)
def account(server: AuthenticatedServer, home: Path) -> Iterator[dict[str, str]]:
    """Our own credentials, in the environment as a user gives them, who has nothing in ~/.ray."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "MLFLOW_TRACKING_TOKEN"):
            patch.delenv(name, raising=False)
        patch.setenv("HOME", str(home))
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        given = server.add_user("sweeper")
        for name, value in given.items():
            patch.setenv(name, value)
        yield given


@pytest.fixture(scope="module")
def observed(
    server: AuthenticatedServer, tmp_path_factory: pytest.TempPathFactory
) -> tuple[SweepRun, Observation]:
    observation = Observation()
    folder = tmp_path_factory.mktemp("swept")
    arguments = [*EVALUATED, "--set", f"tracking.uri={server.uri}"]
    sweep = run_sweep(folder, NAME, *arguments, while_running=observation)
    assert sweep.returncode == 0, sweep.stdout + sweep.stderr
    return sweep, observation


@pytest.fixture(scope="module")
def runs(server: AuthenticatedServer, observed: tuple[SweepRun, Observation]) -> dict[str, Run]:
    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], f"tags.sweep = '{NAME}'")
    return {str(run.info.run_name): run for run in found}


def test_everything_is_in_mlflow(
    server: AuthenticatedServer, observed: tuple[SweepRun, Observation], runs: dict[str, Run]
) -> None:
    record, client = observed[0].record, MlflowClient(server.uri)
    assert "MLflow" not in observed[0].stderr and "did not take" not in observed[0].stdout
    assert runs[NAME].info.status == "FINISHED"
    assert {name: run.data.tags["status"] for name, run in runs.items() if name != NAME} == {
        trial.name: trial.status for trial in record.own_trials
    }
    assert "report.html" in [item.path for item in client.list_artifacts(runs[NAME].info.run_id)]
    for trial, epoch in record.evaluations:
        place = f"snapshots/epoch-{epoch:04d}/weights.safetensors"
        stored = client.download_artifacts(runs[trial].info.run_id, place)
        snapshot = Path(observed[0].paths.snapshot(trial, epoch), "weights.safetensors")
        assert Path(stored).read_bytes() == snapshot.read_bytes()


def test_secrets_are_in_nothing_that_is_left(
    server: AuthenticatedServer,
    observed: tuple[SweepRun, Observation],
    home: Path,
    account: dict[str, str],
) -> None:
    sweep, seen = observed
    assert len(seen.ray_token) >= 32, "the token of the sweep's own Ray was not found"
    secrets = [account["MLFLOW_TRACKING_PASSWORD"].encode(), seen.ray_token.encode()]
    places = [sweep.folder, server.folder, seen.session, home]
    files = [path for place in places for path in place.rglob("*") if path.is_file()]
    names = {path.name for path in files}
    # It would prove nothing of files that are not looked at.
    assert {"ledger.jsonl", "sweep.yaml", "sweep.log", "server.db", "server.log", "report.html"} <= names
    assert {"gcs_server.out", "raylet.out"} <= names
    for path in files:
        content = path.read_bytes()
        assert not any(secret in content for secret in secrets), path
    shown = "\n".join([sweep.stdout, sweep.stderr, *seen.commands])
    assert "gcs_server" in shown and "ImplicitFunc" in shown
    assert not any(secret.decode() in shown for secret in secrets)
    assert not (home / ".ray").exists()


def test_a_running_sweep_listens_on_loopback_alone(observed: tuple[SweepRun, Observation]) -> None:
    listening = observed[1].listening
    assert {"gcs_server", "raylet"} <= {process for process, _ in listening}
    assert [place for place in listening if not _is_loopback(place[1])] == []


def _is_loopback(address: str) -> bool:
    found = ipaddress.ip_address(address)
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


def test_other_users_cannot_enter_the_folder_of_its_ray(
    observed: tuple[SweepRun, Observation],
) -> None:
    session = observed[1].session
    closed = [folder for folder in session.parents if folder.stat().st_mode & 0o077 == 0]
    assert closed and closed[0].stat().st_uid == os.getuid()


def test_pages_are_read_without_mlflows_password_and_do_not_hand_it_on(
    server: AuthenticatedServer,
    observed: tuple[SweepRun, Observation],
    runs: dict[str, Run],
    account: dict[str, str],
) -> None:
    trial, epoch = min(observed[0].record.evaluations)
    place = f"sweeps/{runs[NAME].info.run_id}"
    point = f"{place}/points/{runs[trial].info.run_id}/{epoch}"
    with _serving(server.uri) as (pages, process):
        answers = [
            requests.get(f"{pages}/{part}", timeout=60)
            for part in ("", place, f"{place}/state", f"{place}/state/trials", point)
        ]
        commands = [" ".join(p.cmdline()) for p in [process, *process.children(recursive=True)]]
    assert [answer.status_code for answer in answers] == [200] * 5
    assert f"{server.uri}/#/experiments" in answers[1].text
    shown = [*commands, *(f"{answer.headers}{answer.text}" for answer in answers)]
    assert not any(account["MLFLOW_TRACKING_PASSWORD"] in text for text in shown)


@contextlib.contextmanager
def _serving(uri: str) -> Iterator[tuple[str, psutil.Process]]:
    """The address of `dashboards.serve` while it runs, and its process."""
    words = [sys.executable, "-m", "dashboards.serve", "--port", "0", "--uri", uri]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[-1], psutil.Process(process.pid)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(20)


def test_reports_tables_and_comparisons_have_it_from_the_server(
    server: AuthenticatedServer,
    observed: tuple[SweepRun, Observation],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    where = ["--uri", server.uri, "--out", str(tmp_path)]
    assert report.main([NAME, *where]) == 0
    assert tables.main([NAME, *where]) == 0
    assert compare.main([NAME, NAME, *where]) == 2
    assert "are both the run" in capsys.readouterr().err  # which it knows from the server
    assert "report.html" in {path.name for path in tmp_path.iterdir()}


def test_its_trials_are_imported_from_the_server(
    server: AuthenticatedServer, observed: tuple[SweepRun, Observation], tmp_path: Path
) -> None:
    arguments = ["--set", f"tracking.uri={server.uri}", "--import", f"mlflow:{NAME}", "--dry-run"]
    result = subprocess.run(
        command(tmp_path, "next", TINY, *arguments), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert f"mlflow:{NAME}: 3 of 4 trials" in result.stdout


def test_a_password_that_changes_meanwhile_loses_nothing(
    server: AuthenticatedServer,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = home / ".mlflow" / "credentials"
    file.parent.mkdir()

    def write_credentials(given: dict[str, str]) -> None:
        lines = [f"{name.lower()} = {value}" for name, value in given.items()]
        file.write_text("\n".join(["[mlflow]", *lines]))

    write_credentials(server.add_user("changing"))
    for name in credentials("", ""):
        monkeypatch.delenv(name)
    client = MlflowClient(server.uri)
    run_id = client.create_run(client.create_experiment("changing")).info.run_id
    password = server.change_password("changing")
    operations = OperationQueue()
    operations.put(lambda: client.log_text(run_id, "a text", "note.txt"))
    for step in range(3):
        operations.put(lambda step=step: client.log_metric(run_id, "loss", 1.0, step=step))
    wait_for(lambda: caplog.text.count("401") > 1)
    assert (operations.num_refused, operations.num_waiting) == (0, 3)
    write_credentials(credentials("changing", password))
    assert operations.close(patience_s=60) == 0
    assert operations.num_refused == 0
    assert [metric.step for metric in client.get_metric_history(run_id, "loss")] == [0, 1, 2]
    assert [item.path for item in client.list_artifacts(run_id)] == ["note.txt"]
    file.unlink()


def test_what_a_user_may_not_do_holds_nothing_up(
    server: AuthenticatedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = MlflowClient(server.uri)
    run_id = owner.create_run(owner.create_experiment("of-another")).info.run_id
    for name, value in server.add_user("guest").items():
        monkeypatch.setenv(name, value)
    operations = OperationQueue()
    operations.put(lambda: owner.log_metric(run_id, "loss", 1.0))
    operations.put(lambda: owner.log_text(run_id, "a text", "note.txt"))
    assert operations.close(patience_s=60) == 0
    assert operations.num_refused == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "takes no one without the right credentials (401); set MLFLOW_TRACKING_USERNAME and"),
        (credentials("sweeper", new_password()), "takes no one without the right credentials (401)"),
        ({"MLFLOW_TRACKING_TOKEN": new_password()}, "names and passwords alone"),
        ({"user": "reader"}, "does not allow the user of these credentials to write to the experiment"),
    ],
    ids=["none", "a wrong password", "a wrong token", "a user who may only read"],
)
def test_who_may_not_write_is_told_before_anything_is_made(
    given: dict[str, str],
    message: str,
    server: AuthenticatedServer,
    runs: dict[str, Run],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_ray_left: None,
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
    for name, value in (server.add_user("reader") if "user" in given else given).items():
        monkeypatch.setenv(name, value)
    sweep = run_sweep(tmp_path, "refused", "--set", f"tracking.uri={server.uri}", has_store=False)
    assert sweep.returncode == 2, sweep.stdout
    assert message in sweep.stderr and sweep.stderr.count("\n") == 1
    assert "starting Ray" not in sweep.stdout
    assert list(tmp_path.iterdir()) == []
    assert not any(value in sweep.stderr for value in given.values() if value.startswith("pass-"))


def test_pages_are_refused_without_a_password_in_one_line(
    server: AuthenticatedServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
    assert serve.main(["--uri", server.uri, "--port", "0"]) == 2
    error = capsys.readouterr().err
    assert "takes no one without the right credentials (401)" in error and error.count("\n") == 1
