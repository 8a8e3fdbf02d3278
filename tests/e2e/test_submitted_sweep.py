"""Sweeps that are submitted to a real head, with its dashboard and a token."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from heads import running_dashboard
from sweep_runs import REPOSITORY, TINY, SweepRun, command, wait_for

from orchestrator.environment import git_commit
from orchestrator.events import SweepStarted

pytestmark = pytest.mark.slow

TOKEN = "0123456789abcdef0123456789abcdef"
WRONG = "f" * 32
LONG = ("--trials", "12", "--name", "long")  # is not over before somebody else has stopped it


class Cluster(NamedTuple):
    """A head, as `Head` has it, and the folder that all sweeps write to."""

    dashboard: str
    gcs: str
    process: psutil.Process
    folder: Path

    def submission(self, *arguments: str) -> list[str]:
        """The command that submits TINY, or looks at what was submitted."""
        words = [sys.executable, "-m", "orchestrator.submit", *arguments]
        return [*words, "--address", self.dashboard]

    def settings(self) -> list[str]:
        """What TINY needs on a cluster."""
        places = [f"storage={self.folder}/runs", f"tracking.uri=sqlite:///{self.folder}/mlflow.db"]
        return [str(TINY), *(part for place in places for part in ("--set", place))]

    def submit(self, *arguments: str, token: str | None = TOKEN) -> subprocess.CompletedProcess[str]:
        """Runs a submission to its end."""
        return subprocess.run(
            self.submission(*arguments), cwd=REPOSITORY, env=environment(token),
            capture_output=True, text=True, check=False, timeout=240,
        )  # fmt: skip

    def sweep(self, name: str) -> SweepRun:
        """What a sweep left."""
        return SweepRun(self.folder, name, 0, "", "")


def environment(token: str | None) -> dict[str, str]:
    """Of somebody who has this token, or none: the one in this home is of another cluster."""
    mode = {"RAY_AUTH_MODE": "disabled"} if token is None else {"RAY_AUTH_TOKEN": token}
    names = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN")
    return {**{name: value for name, value in os.environ.items() if name not in names}, **mode}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("shared")
    with running_dashboard(TOKEN, folder / "head.log") as head:
        yield Cluster(*head, folder)


@pytest.fixture(scope="module")
def followed(cluster: Cluster) -> subprocess.CompletedProcess[str]:
    """A submission of two trials that was followed to its end."""
    return cluster.submit(*cluster.settings(), "--trials", "2", "--name", "first", "--follow")


def test_a_submitted_sweep_is_followed_to_its_front(
    followed: subprocess.CompletedProcess[str], cluster: Cluster
) -> None:
    assert followed.returncode == 0, followed.stdout + followed.stderr
    assert "Traceback" not in followed.stdout + followed.stderr
    lines = followed.stdout.splitlines()
    assert lines[0] == f"first was submitted to {cluster.dashboard}, as job first"
    assert [line.split()[0] for line in lines if line.startswith("[")] == ["[1/2]", "[2/2]"]
    assert lines[-1] == "first: SUCCEEDED, exit code 0"
    sweep = cluster.sweep("first")
    assert sweep.record.count("completed") == 2
    assert sweep.parent.info.status == "FINISHED"
    artifacts = {item.path for item in sweep.client.list_artifacts(sweep.parent.info.run_id)}
    assert "pareto_front.csv" in artifacts


def test_it_is_known_of_which_commit_the_code_is_that_was_sent(
    followed: subprocess.CompletedProcess[str], cluster: Cluster
) -> None:
    (started,) = [event for event in cluster.sweep("first").events if isinstance(event, SweepStarted)]
    assert started.environment.get("git_commit") == git_commit()


def test_the_token_is_in_nothing_that_a_sweep_leaves(
    followed: subprocess.CompletedProcess[str], cluster: Cluster
) -> None:
    assert followed.returncode == 0
    for file in cluster.folder.rglob("*"):
        assert not file.is_file() or TOKEN.encode() not in file.read_bytes(), file
    assert TOKEN not in followed.stdout + followed.stderr


def test_the_same_submission_is_the_same_sweep(
    followed: subprocess.CompletedProcess[str], cluster: Cluster
) -> None:
    events = cluster.sweep("first").events
    again = cluster.submit(*cluster.settings(), "--trials", "2", "--name", "first", "--follow")
    assert again.returncode == 0, again.stderr
    assert "first was submitted before, as job first: SUCCEEDED, exit code 0" in again.stdout
    other = cluster.submit(*cluster.settings(), "--trials", "3", "--name", "first")
    assert other.returncode == 2
    assert "first was submitted before with other settings" in other.stderr
    assert cluster.sweep("first").events == events


def test_a_reader_who_leaves_ends_the_following_quietly(
    followed: subprocess.CompletedProcess[str], cluster: Cluster
) -> None:
    with subprocess.Popen(
        cluster.submission("--status", "first", "--follow"), cwd=REPOSITORY, env=environment(TOKEN),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as follower:  # fmt: skip
        assert follower.stdout is not None and follower.stderr is not None
        follower.stdout.close()
        assert follower.wait(60) == 130
        assert follower.stderr.read() == ""


@pytest.mark.parametrize(
    ("token", "message"),
    [
        (WRONG, "the cluster refuses the token of RAY_AUTH_TOKEN; set RAY_AUTH_TOKEN"),
        (None, "the cluster asks for a token, and RAY_AUTH_MODE=disabled keeps it; set it to token"),
    ],
    ids=["wrong", "none"],
)
def test_without_the_right_token_there_is_one_message(
    token: str | None, message: str, cluster: Cluster, tmp_path: Path
) -> None:
    refused = cluster.submit(*cluster.settings(), token=token)
    assert refused.returncode == 2
    assert refused.stderr == f"--address {cluster.dashboard}: {refused.stderr.partition(': ')[2]}"
    assert message in refused.stderr
    joined = subprocess.run(
        command(tmp_path, "refused", TINY, "--address", cluster.gcs), cwd=REPOSITORY,
        env=environment(token), capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert joined.returncode == 2
    assert f"--address {cluster.gcs}: {message}" in joined.stderr
    for text in (refused.stderr, joined.stderr):
        assert "Traceback" not in text
        assert WRONG not in text
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_that_cannot_run_gives_its_exit_code(cluster: Cluster) -> None:
    failed = cluster.submit(
        *cluster.settings(), "--set", "resources.cpus=1000", "--name", "failed", "--follow"
    )
    assert failed.returncode == 2
    assert "\nresources: a trial asks for 1000 CPU" in failed.stdout
    assert failed.stdout.splitlines()[-1] == "failed: FAILED, exit code 2"
    assert not cluster.sweep("failed").paths.root.exists()


@pytest.fixture(scope="module")
def stopped(cluster: Cluster) -> subprocess.CompletedProcess[str]:
    """The stop of a sweep whose follower was interrupted before."""
    words = cluster.submission(*cluster.settings(), *LONG, "--follow")
    with subprocess.Popen(
        words, cwd=REPOSITORY, env=environment(TOKEN), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as follower:  # fmt: skip
        assert follower.stdout is not None and follower.stderr is not None
        assert next(line for line in follower.stdout if line.startswith("[1/12]"))
        follower.send_signal(signal.SIGINT)
        assert follower.wait(60) == 130
        assert "long goes on without this command" in follower.stderr.read()
    status = cluster.submit("--status", "long")
    assert status.returncode == 0, status.stderr
    assert "long: RUNNING, started " in status.stdout
    return cluster.submit("--stop", "long")


def test_a_stop_is_tidy(stopped: subprocess.CompletedProcess[str], cluster: Cluster) -> None:
    assert stopped.returncode == 0, stopped.stderr
    assert "interrupted after" in stopped.stdout
    assert "long: STOPPED" in stopped.stdout
    sweep = cluster.sweep("long")
    assert (sweep.end.status, sweep.end.reason) == ("interrupted", "interrupted by SIGTERM")
    assert sweep.record.front
    artifacts = {item.path for item in sweep.client.list_artifacts(sweep.parent.info.run_id)}
    assert "pareto_front.csv" in artifacts
    assert "RUNNING" not in {run.info.status for run in sweep.runs()}
    wait_for(lambda: not any(map(_is_driver, cluster.process.children(recursive=True))), 30)


def _is_driver(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):  # it may end while one looks
        return "orchestrator.sweep" in process.cmdline()
    return False


def test_a_stopped_sweep_goes_on_by_resume_alone(
    stopped: subprocess.CompletedProcess[str], cluster: Cluster
) -> None:
    again = cluster.submit(*cluster.settings(), *LONG)
    assert again.returncode == 130
    assert "long was submitted before, as job long: STOPPED, exit code 130" in again.stdout
    before = cluster.sweep("long").record
    resumed = cluster.submit("--resume", "long", "--follow")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "as job long-resumed-1" in resumed.stdout
    record = cluster.sweep("long").record
    assert record.status == "completed"
    assert len(record.trials) == 12
    ended = {name for name, trial in before.trials.items() if not trial.is_unfinished}
    assert ended
    assert all(record.trials[name].ended == before.trials[name].ended for name in ended)
    status = cluster.submit("--status", "long")
    assert [line.split(":")[0] for line in status.stdout.splitlines()[:2]] == ["long", "long-resumed-1"]


def test_what_was_never_submitted_is_not_there(cluster: Cluster) -> None:
    for words in (("--status", "nobody"), ("--stop", "nobody"), ("--resume", "nobody")):
        unknown = cluster.submit(*words)
        assert unknown.returncode == 2
        assert "nobody" in unknown.stderr
        assert "Traceback" not in unknown.stderr
