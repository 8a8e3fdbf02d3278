"""python -m orchestrator.submit SPACE.yaml: a sweep as a job of a Ray cluster.

The driver runs on the cluster's head and goes on when this command has ended; storage and tracking are
what outlives both. Decisions are in `orchestrator.submission`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator import process_environment, storage_check
from orchestrator.cluster_address import Address, address_of
from orchestrator.cluster_settings import require_remote, require_remote_storage, warnings
from orchestrator.command_line import overrides_of, tell
from orchestrator.environment import git_commit
from orchestrator.errors import UserError
from orchestrator.job_client import JobServer, connect, package_limit
from orchestrator.job_log import JobLog
from orchestrator.job_package import read_lock, require_size, root_of, stage
from orchestrator.settings import check_override, load_settings
from orchestrator.settings_text import to_yaml
from orchestrator.submission import (
    STOP_WAIT_S,
    Answer,
    Job,
    Submission,
    attempts_of,
    decide,
    default_name,
    entrypoint,
    known_names,
    metadata,
    next_id,
    variables,
)
from orchestrator.submit_options import parse
from orchestrator.tracking_check import refuse_password

_EXIT_INTERRUPTED = 130
_SETUP_S = 3600
_PAUSE_S = 1.0
_NUM_SHOWN = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = parse(arguments)
    try:
        code = _run(options)
        sys.stdout.flush()
        return code
    except UserError as error:
        return tell(error, options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    except BrokenPipeError:  # who read what is printed has left, and Python would flush the rest
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return _EXIT_INTERRUPTED


def _run(options: argparse.Namespace) -> int:
    address = address_of(options.address, os.environ)
    if not options.status and not options.stop:
        return _submit(options, address)
    process_environment.prepare(address.text)
    server = connect(address)
    return _stop(options, server) if options.stop else _status(options, server)


def _submit(options: argparse.Namespace, address: Address) -> int:
    submission = _read(options)
    requirements = read_lock(root_of("orchestrator").parent) if options.dependencies else []
    process_environment.prepare(address.text)
    server = connect(address)
    if submission.settings is not None:
        for text in warnings(submission.settings, server.address):
            print(f"warning: {text}", file=sys.stderr)
    name, jobs = submission.name, server.jobs()
    answer, job_id = decide(submission, jobs), next_id(name, jobs)
    if answer is Answer.SUBMIT:
        try:
            _send(submission, job_id, attempts_of(jobs, name), requirements, server)
            print(f"{name} was submitted to {server.address}, as job {job_id}")
        except UserError:
            jobs = server.jobs()  # the same may have come from elsewhere, or our answer was lost
            answer = decide(submission, jobs)
            if answer is Answer.SUBMIT:
                raise
    if answer is Answer.HAS_ENDED:
        return _tell_ended(name, attempts_of(jobs, name)[-1], server.address)
    if answer is Answer.IS_RUNNING:
        job_id = attempts_of(jobs, name)[-1].id
        print(f"{name} is running already, as job {job_id}")
    _tell_next(name, job_id, server)
    return _follow(name, job_id, server) if options.follow else 0


def _read(options: argparse.Namespace) -> Submission:
    """What is to be run, refused before anything is asked or sent where it cannot be."""
    for sweep in options.imports:
        _require_remote_import(sweep)
    overrides = overrides_of(options)
    if options.file is None:
        for override in overrides:
            _check_override(override)
        return Submission(options.resume, None, is_resume=True, overrides=tuple(overrides))
    settings = load_settings(options.file, overrides)
    require_remote(settings)
    name = options.resume or options.name or default_name(settings, options.imports)
    return Submission(name, settings, tuple(options.imports), is_resume=bool(options.resume))


def _require_remote_import(sweep: str) -> None:
    if "/" in sweep and "://" not in sweep and not sweep.startswith(("/", "~", "mlflow:")):
        raise UserError(
            f"--import: {sweep} is a relative path, which the head does not have; give the name of a "
            "sweep in the storage, an absolute path or mlflow:NAME"
        )
    storage_check.refuse_password(sweep, "--import")


def _check_override(override: str) -> None:
    """Refuses what the sweep's own settings cannot take, as far as that is known without them."""
    key, _, value = override.partition("=")
    if key == "storage":
        require_remote_storage(value)
    else:
        refuse_password(value)
    check_override(override)


def _storage(submission: Submission, attempts: Sequence[Job], address: str) -> str:
    """Where the sweep is, by its settings or its earlier jobs."""
    if submission.settings is not None:
        return submission.settings.storage
    given = [o.partition("=")[2] for o in submission.overrides if o.startswith("storage=")]
    told = given or [job.storage for job in attempts if job.storage]
    if not told:
        raise UserError(
            f"--resume: the cluster at {address} has had no sweep {submission.name}; give its file too, "
            "or its storage by --set storage=..."
        )
    return told[-1]


def _send(
    submission: Submission,
    job_id: str,
    attempts: Sequence[Job],
    requirements: Sequence[str],
    server: JobServer,
) -> None:
    """Uploads what the job needs, and starts it."""
    storage = _storage(submission, attempts, server.address)
    command = entrypoint(submission, storage, is_known=bool(attempts))
    commit = git_commit()
    settings = submission.settings
    with tempfile.TemporaryDirectory(prefix="monocon-") as name:
        folder = Path(name)
        stage(folder, None if settings is None else to_yaml(settings))
        require_size(folder, package_limit())
        runtime_env: dict[str, Any] = {"working_dir": name, "env_vars": variables(commit)}
        if requirements:
            runtime_env["pip"] = {"packages": list(requirements), "pip_check": False}
            runtime_env["config"] = {"setup_timeout_seconds": _SETUP_S}
        server.submit(job_id, command, runtime_env, metadata(submission, storage, commit))


def _tell_next(name: str, job_id: str, server: JobServer) -> None:
    print(f"page:    {server.page(job_id)}")
    print(f"look:    {_command('--status', name, server.address)}")
    print(f"follow:  {_command('--status', name, server.address, '--follow')}")
    print(f"stop:    {_command('--stop', name, server.address)}")


def _command(option: str, name: str, address: str, *more: str) -> str:
    words = ["python", "-m", "orchestrator.submit", option, name, "--address", address, *more]
    return shlex.join(words)


def _tell_ended(name: str, job: Job, address: str) -> int:
    """Tells of a sweep that was submitted before, which is not begun again."""
    print(f"{name} was submitted before, as job {job.id}: {job.status}, exit code {job.code}")
    _advise(name, job, address)
    return job.code


def _advise(name: str, job: Job, address: str) -> None:
    """Tells how a sweep that has ended goes on."""
    if job.code:
        print(f"go on with it: {_command('--resume', name, address)}")
        print("(with the file too, if it ended before its first trial)")
    else:
        print(f"give it more trials: {_command('--resume', name, address, '--trials', 'N')}")


def _follow(name: str, job_id: str, server: JobServer) -> int:
    """Prints the job's log to its end; the exit code is the job's."""
    log = JobLog(server, job_id, lambda text: print(text, end="", flush=True))
    try:
        job = log.follow()
    except KeyboardInterrupt:
        print(f"\n{name} goes on without this command", file=sys.stderr)
        _tell_next(name, job_id, server)
        return _EXIT_INTERRUPTED
    return _tell_end(name, job)


def _tell_end(name: str, job: Job) -> int:
    print(f"{name}: {job.status}, exit code {job.code}")
    if job.status == "FAILED" and job.exit_code is None:  # its driver never ran to an end
        print(job.message.strip(), file=sys.stderr)
    return job.code


def _latest(name: str, server: JobServer) -> list[Job]:
    """The jobs of a sweep.

    Raises:
        UserError: there are none.
    """
    jobs = server.jobs()
    if attempts := attempts_of(jobs, name):
        return attempts
    known = ", ".join(known_names(jobs)) or "none"
    raise UserError(f"{name} was not submitted to {server.address}; sweeps that were: {known}")


def _status(options: argparse.Namespace, server: JobServer) -> int:
    name = options.status
    attempts = _latest(name, server)
    for job in attempts:
        print(f"{job.id}: {_description(job)}")
    if options.follow:
        return _follow(name, attempts[-1].id, server)
    lines = server.log(attempts[-1].id).splitlines()
    for line in lines[-_NUM_SHOWN:]:
        print(f"  {line}")
    _tell_next(name, attempts[-1].id, server)
    return 0


def _description(job: Job) -> str:
    parts = [job.status]
    if job.has_ended:
        parts.append(f"exit code {job.code}")
    for word, at in (("started", job.started), ("ended", job.ended)):
        if at:
            parts.append(f"{word} {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(at))}")
    return ", ".join(parts)


def _stop(options: argparse.Namespace, server: JobServer) -> int:
    """Ends a sweep as Ctrl-C would, and shows how it ends."""
    name = options.stop
    job = _latest(name, server)[-1]
    if job.has_ended:
        print(f"{name} is not running: {_description(job)}")
        return 0
    server.stop(job.id)
    print(f"{name} is stopping: it logs its front so far, within {STOP_WAIT_S} s", flush=True)
    job = _await_end(name, job.id, server)
    _tell_end(name, job)
    if job.status == "SUCCEEDED":
        print("it had completed before the stop")
    _advise(name, job, server.address)
    return 0


def _await_end(name: str, job_id: str, server: JobServer) -> Job:
    """Shows what a job prints, its last lines first, until it has ended, through lost connections.

    Raises:
        UserError: it has not when Ray should have killed it.
    """
    log = JobLog(server, job_id, lambda text: print(text, end="", flush=True))
    with contextlib.suppress(UserError):
        log.skip(_NUM_SHOWN)
    deadline = time.monotonic() + STOP_WAIT_S + 60
    while True:
        try:
            job = server.job(job_id)
            state = "is still running"
            with contextlib.suppress(UserError):
                log.rest()
            if job.has_ended:
                return job
        except UserError as error:
            state = f"may be running still ({error})"
        if time.monotonic() > deadline:
            raise UserError(f"{name} {state}; look at {server.page(job_id)}")
        time.sleep(_PAUSE_S)


if __name__ == "__main__":
    sys.exit(main())
