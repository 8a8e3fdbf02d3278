from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator import submit
from orchestrator.cluster_address import Address
from orchestrator.command_line import parse
from orchestrator.errors import UserError
from orchestrator.settings import load_settings
from orchestrator.submission import Job
from orchestrator.submit import main

SPACE = """\
name: s
trial: {dataset: digits, encoder: digits_cnn, encoder_weights: none, augmentation: none}
search_space: {temperature: {log_uniform: [0.03, 0.5]}}
tracking: {uri: "sqlite:////shared/mlflow.db"}
storage: /shared/runs
"""
Run = Callable[..., tuple[int, str]]


class Server:
    """A job server that starts nothing: what was submitted has the status that the test gives it."""

    address = "http://head:8265"

    def __init__(self) -> None:
        self.submitted: list[Job] = []
        self.commands: list[str] = []
        self.environments: list[dict[str, Any]] = []
        self.settings: list[dict[str, Any]] = []
        self.status = "RUNNING"
        self.exit_code: int | None = None

    def jobs(self) -> list[Job]:
        return [
            each._replace(status=self.status, exit_code=self.exit_code, started=float(number))
            for number, each in enumerate(self.submitted)
        ]

    def job(self, job_id: str) -> Job:
        return next(each for each in self.jobs() if each.id == job_id)

    def submit(
        self, job_id: str, command: str, runtime_env: dict[str, Any], metadata: dict[str, str]
    ) -> None:
        file = Path(runtime_env["working_dir"]) / "sweep.yaml"
        self.settings.append(yaml.safe_load(file.read_text()) if file.exists() else {})
        self.commands.append(command)
        self.environments.append(runtime_env)
        self.submitted.append(Job(job_id, "PENDING", metadata=metadata))

    def stop(self, job_id: str) -> None:
        self.status = "STOPPED"

    def log(self, job_id: str) -> str:
        return "[1/2] a trial\n" + ("interrupted after 3 s\n" if self.status == "STOPPED" else "")

    def page(self, job_id: str) -> str:
        return f"{self.address}/#/jobs/{job_id}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    found = Server()
    monkeypatch.setattr(submit, "connect", lambda address: found)
    monkeypatch.setattr(submit, "git_commit", lambda: "abc")
    monkeypatch.setattr(submit.process_environment, "prepare", lambda address: None)
    return found


@pytest.fixture
def run(server: Server, write_space: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command with a search space, or with options alone; its exit code and what it said."""

    def command(*arguments: str, space: str | None = SPACE) -> tuple[int, str]:
        words = [str(write_space(space)), *arguments] if space else list(arguments)
        code = main(words)
        said = capsys.readouterr()
        return code, said.out + said.err

    return command


def test_the_resolved_settings_are_sent(run: Run, server: Server, tmp_path: Path) -> None:
    code, text = run("--trials", "3", "--set", "search.seed=7", "--name", "a", "--import", "b")
    assert code == 0
    (command,), (environment,) = server.commands, server.environments
    options = parse(shlex.split(command)[4:])
    assert (options.name, options.or_resume, options.imports) == ("a", True, ["b"])
    (tmp_path / "sent.yaml").write_text(yaml.safe_dump(server.settings[0]))
    sent = load_settings(tmp_path / "sent.yaml")
    assert (sent.search.trials, sent.search.seed, sent.storage) == (3, 7, "/shared/runs")
    assert "pip" not in environment
    assert environment["env_vars"]["MONOCON_GIT_COMMIT"] == "abc"
    for line in text.splitlines()[2:]:
        assert line.split(maxsplit=1)[1].startswith("python -m orchestrator.submit --st")


def test_what_was_staged_is_gone_when_it_was_sent(run: Run, server: Server) -> None:
    run()
    assert not Path(server.environments[0]["working_dir"]).exists()


def test_twice_is_once_with_and_without_a_name(run: Run, server: Server) -> None:
    for arguments in ((), ("--name", "a")):
        _, first = run(*arguments)
        code, second = run(*arguments)
        assert code == 0
        assert " is running already, as job " in second
        assert first.splitlines()[1:] == second.splitlines()[1:]
    assert [job.id for job in server.submitted] == [server.submitted[0].id, "a"]
    assert server.submitted[0].id.startswith("s-")


@pytest.mark.parametrize(
    ("status", "code", "text"),
    [
        ("RUNNING", 0, "a is running already, as job a\npage: "),
        ("FAILED", 1, "a was submitted before, as job a: FAILED, exit code 1"),
    ],
)
def test_one_that_comes_second_is_told_of_the_first(
    status: str, code: int, text: str, run: Run, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*of_job: Any) -> None:
        Server.submit(server, *of_job)
        server.status = status
        raise UserError("ValueError: Job with submission_id a already exists.")

    monkeypatch.setattr(server, "submit", lose)
    second = run("--name", "a")
    assert second[0] == code
    assert second[1].startswith(text)


def test_what_the_cluster_refuses_is_one_message(
    run: Run, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise UserError("no agent is there")

    monkeypatch.setattr(server, "submit", refuse)
    assert run("--name", "a") == (2, "no agent is there\n")


@pytest.mark.parametrize(
    ("status", "exit_code", "code", "text"),
    [
        ("SUCCEEDED", 0, 0, "a was submitted before, as job a: SUCCEEDED, exit code 0"),
        ("FAILED", 1, 1, "go on with it: python -m orchestrator.submit --resume a --address"),
        ("FAILED", -9, 137, "FAILED, exit code 137"),
        ("STOPPED", None, 130, "go on with it: python -m orchestrator.submit --resume a --address"),
    ],
)
def test_one_that_ended_is_told_and_not_begun_again(
    status: str, exit_code: int | None, code: int, text: str, run: Run, server: Server
) -> None:
    run("--name", "a")
    server.status, server.exit_code = status, exit_code
    again = run("--name", "a")
    assert again[0] == code
    assert text in again[1]
    assert len(server.submitted) == 1


def test_a_resume_by_name_alone_knows_the_storage(run: Run, server: Server) -> None:
    run("--name", "a")
    server.status = "STOPPED"
    code, text = run("--resume", "a", "--trials", "9", space=None)
    assert code == 0
    assert "as job a-resumed-1" in text
    options = parse(shlex.split(server.commands[1])[4:])
    assert (options.file, options.resume) == (None, "a")
    assert options.overrides == ["storage=/shared/runs", "search.trials=9"]
    assert server.settings[1] == {}
    server.status = "FAILED"
    assert "as job a-resumed-2" in run("--resume", "a", space=None)[1]


def test_a_resume_with_its_file_may_find_that_nothing_had_begun(run: Run, server: Server) -> None:
    run("--name", "a")
    server.status = "STOPPED"
    assert "(with the file too, if it ended before its first trial)" in run("--name", "a")[1]
    assert "as job a-resumed-1" in run("--resume", "a")[1]
    assert parse(shlex.split(server.commands[1])[4:]).or_resume


def test_a_resume_on_a_cluster_that_never_saw_it_needs_its_file(run: Run, server: Server) -> None:
    code, text = run("--resume", "a", space=None)
    assert code == 2
    assert "has had no sweep a; give its file too, or its storage by --set storage=..." in text
    assert run("--resume", "a", "--set", "storage=/shared/runs", space=None)[0] == 0
    assert run("--resume", "b")[0] == 0
    assert parse(shlex.split(server.commands[1])[4:]).file == Path("sweep.yaml")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "storage=runs"), "--set storage=runs: storage: runs is relative"),
        (("--set", "storage=s3://key:s3cret@bucket/runs"), ": storage holds a password"),
        (("--set", "search.trial=3"), "did you mean 'trials'?"),
        (("--set", "tracking.uri=http://u:s3cret@host"), "tracking.uri holds a password"),
        (("--import", "runs/b"), "--import: runs/b is a relative path"),
        (("--import", "s3://key:s3cret@bucket/runs/b"), "--import holds a password"),
        (("--address", "head"), "--address: head is not the address of a Ray dashboard"),
    ],
)
def test_what_cannot_run_there_is_refused_before_anything_is_sent(
    arguments: tuple[str, ...], message: str, run: Run, server: Server
) -> None:
    code, text = run(*arguments)
    assert (code, server.submitted) == (2, [])
    assert message in text


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tracking.uri=http://u:s3cret@host", "tracking.uri holds a password"),
        ("storage=runs", "storage: runs is relative"),
        ("storage=s3://key:s3cret@bucket/runs", "storage holds a password"),
        ("search.trials", "--set search.trials: write --set key=value"),
        ("foo=1", "--set foo=1: unknown key 'foo'"),
        ("search.trial=3", "did you mean 'trials'?"),
        ("evaluation.timeout=0s", "--set evaluation.timeout=0s: evaluation.timeout"),
    ],
)
def test_a_resume_without_a_file_is_refused_for_what_is_known(
    override: str, message: str, run: Run, server: Server
) -> None:
    code, text = run("--resume", "a", "--set", override, space=None)
    assert (code, server.submitted) == (2, [])
    assert message in text


def test_a_package_that_is_too_large_is_not_sent(
    run: Run, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit, "package_limit", lambda: 2**19)
    code, text = run()
    assert (code, server.submitted) == (2, [])
    assert "and Ray takes less than 0.5 MiB; the largest files are:" in text
    assert len([line for line in text.splitlines() if line.startswith("  ")]) == 5


def test_locked_dependencies_are_an_option(run: Run, server: Server) -> None:
    assert run("--dependencies")[0] == 0
    packages = server.environments[0]["pip"]["packages"]
    assert any(line.startswith("torch==") for line in packages)


def test_a_server_on_loopback_is_warned_of(run: Run) -> None:
    code, text = run("--set", "tracking.uri=http://127.0.0.1:5000")
    assert code == 0
    assert "warning: tracking.uri: http://127.0.0.1:5000 is this machine here" in text


def test_a_stop_shows_how_the_sweep_ends(run: Run, server: Server) -> None:
    run("--name", "a")
    code, text = run("--stop", "a", space=None)
    assert code == 0
    assert text.splitlines()[1:5] == [
        "[1/2] a trial",
        "interrupted after 3 s",
        "a: STOPPED, exit code 130",
        "go on with it: python -m orchestrator.submit --resume a --address http://head:8265",
    ]
    assert "a is not running: STOPPED" in run("--stop", "a", space=None)[1]


def test_a_sweep_that_completed_before_its_stop_is_told_so(
    run: Run, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("--name", "a")
    monkeypatch.setattr(server, "stop", lambda job_id: setattr(server, "status", "SUCCEEDED"))
    code, text = run("--stop", "a", space=None)
    assert code == 0
    assert "a: SUCCEEDED, exit code 0\nit had completed before the stop\ngive it more trials: " in text
    assert "go on with it" not in text


class Away:
    """A method of the server's that has lost its connection so many times before it answers."""

    def __init__(self, server: Server, name: str, num_lost: int, at: list[str]) -> None:
        self._method, self._name = getattr(server, name), name
        self._num_lost, self._at = num_lost, at

    def __call__(self, *words: Any) -> Any:
        self._at.append(self._name)
        self._num_lost -= 1
        if self._num_lost >= 0:
            raise UserError("no answer from there")
        return self._method(*words)


def test_a_stop_goes_on_through_lost_connections(
    run: Run, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("--name", "a")
    asked: list[str] = []
    monkeypatch.setattr(submit, "_PAUSE_S", 0.0)
    for name, num_lost in (("log", 1), ("job", 3), ("stop", 0)):
        monkeypatch.setattr(server, name, Away(server, name, num_lost, asked))
    code, text = run("--stop", "a", space=None)
    assert code == 0
    assert asked == ["stop", "log", "job", "job", "job", "job", "log"]
    assert "interrupted after 3 s\na: STOPPED" in text


def test_a_stop_whose_end_is_not_seen_says_what_is_known(
    run: Run, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("--name", "a")
    monkeypatch.setattr(submit, "STOP_WAIT_S", -60)
    monkeypatch.setattr(server, "stop", lambda job_id: None)
    code, text = run("--stop", "a", space=None)
    assert code == 2
    assert text.endswith("a is still running; look at http://head:8265/#/jobs/a\n")
    monkeypatch.setattr(server, "job", Away(server, "job", 1, []))
    code, text = run("--stop", "a", space=None)
    assert code == 2
    assert "a may be running still (no answer from there); look at http://head:8265/#/jobs/a" in text


def test_the_status_shows_every_attempt_and_the_last_lines(run: Run, server: Server) -> None:
    run("--name", "a")
    server.status = "STOPPED"
    run("--resume", "a", space=None)
    code, text = run("--status", "a", space=None)
    assert code == 0
    assert [line.split(":")[0] for line in text.splitlines()[:2]] == ["a", "a-resumed-1"]
    assert "  [1/2] a trial" in text.splitlines()


def test_who_follows_may_leave(run: Run, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(self: object) -> Job:
        raise KeyboardInterrupt

    monkeypatch.setattr(submit.JobLog, "follow", leave)
    code, text = run("--name", "a", "--follow")
    assert code == 130
    assert "a goes on without this command" in text
    assert "stop:    python -m orchestrator.submit --stop a --address http://head:8265" in text


@pytest.mark.parametrize("arguments", [("--status", "a"), ("--status", "a", "--follow")])
def test_a_reader_who_leaves_ends_it_quietly(
    arguments: tuple[str, ...], run: Run, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("--name", "a")
    monkeypatch.setattr(submit.JobLog, "follow", lambda self: self.rest())
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as left:
        monkeypatch.setattr(sys, "stdout", left)
        assert main(list(arguments)) == 130
        monkeypatch.undo()


def test_a_driver_that_never_ran_is_told_with_rays_own_words(
    run: Run, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job("a", "FAILED", message="runtime_env setup failed: no such package")
    monkeypatch.setattr(submit.JobLog, "follow", lambda self: job)
    code, text = run("--name", "a", "--follow")
    assert code == 1
    assert "runtime_env setup failed: no such package" in text


def test_a_cluster_that_is_not_there_is_one_message(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(address: Address) -> Server:
        raise UserError(f"{address.name}: no answer from there")

    monkeypatch.setattr(submit, "connect", refuse)
    for arguments in (("--status", "a"), ("--stop", "a"), ("--resume", "a")):
        assert run(*arguments, "--address", "http://h:1", space=None) == (
            2,
            "--address http://h:1: no answer from there\n",
        )
