"""What is submitted to a cluster, and what follows from the jobs that are there: pure decisions.

A sweep is submitted as a Ray job whose id is the sweep's name, so the same submission twice is one
sweep; each resume is a job of its own.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

from orchestrator.environment import COMMIT_VARIABLE
from orchestrator.errors import UserError
from orchestrator.settings import SweepSettings

SETTINGS_FILE = "sweep.yaml"
STOP_WAIT_S = 300
"""How long Ray waits after a stop's SIGTERM before it kills: the driver ends trials, evaluations and
uploads within that, of which MLflow alone may take a minute without progress.
"""
REFUSED = 2
"""The exit code of a sweep that was refused, with nothing begun."""
_NAME_LENGTH = 100
_DIGEST_LENGTH = 8
_SWEEP, _DIGEST, _STORAGE = "sweep", "settings_digest", "storage"


class Job(NamedTuple):
    """A job of the cluster.

    Attributes:
        id: its submission id.
        status: one of Ray's words, such as RUNNING.
        exit_code: of its driver; None where Ray knows none.
        started, ended: Unix times in seconds; None where not yet.
        message: what Ray says of it.
        metadata: as it was submitted.
    """

    id: str
    status: str
    exit_code: int | None = None
    started: float | None = None
    ended: float | None = None
    message: str = ""
    metadata: Mapping[str, str] = {}

    @property
    def has_ended(self) -> bool:
        return self.status in ("SUCCEEDED", "FAILED", "STOPPED")

    @property
    def code(self) -> int:
        """The exit code as a shell has it: 0 only where it succeeded."""
        if self.status == "SUCCEEDED":
            return 0
        if self.status == "STOPPED":
            return 130
        code = self.exit_code or 1
        return 128 - code if code < 0 else code

    @property
    def storage(self) -> str | None:
        """Where its sweep is."""
        return self.metadata.get(_STORAGE)


class Submission(NamedTuple):
    """A sweep to be run on a cluster.

    Attributes:
        name: the sweep's.
        settings: resolved; None where a resume goes by the sweep's own.
        imports: what a new sweep takes from earlier ones.
        is_resume: whether it goes on with a sweep.
        overrides: KEY=VALUE that go over the sweep's own settings, where there are none here.
    """

    name: str
    settings: SweepSettings | None
    imports: Sequence[str] = ()
    is_resume: bool = False
    overrides: Sequence[str] = ()

    @property
    def digest(self) -> str | None:
        """Of everything that makes it another sweep; None where it goes on as it is."""
        if self.settings is not None:
            return digest(self.settings, self.imports)
        return _digest(self.overrides) if self.overrides else None


class Answer(Enum):
    """What is done about a submission."""

    SUBMIT = "submit"
    IS_RUNNING = "is running"
    HAS_ENDED = "has ended"


def digest(settings: SweepSettings, imports: Sequence[str]) -> str:
    """The SHA-256 of a sweep's settings and imports, in hex."""
    return _digest({"settings": settings.model_dump(mode="json"), "imports": list(imports)})


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def default_name(settings: SweepSettings, imports: Sequence[str]) -> str:
    """The name of a sweep that is given none: equal for equal settings."""
    end = f"-{digest(settings, imports)[:_DIGEST_LENGTH]}"
    return f"{settings.name[: _NAME_LENGTH - len(end)]}{end}"


def decide(submission: Submission, jobs: Sequence[Job]) -> Answer:
    """Whether a submission becomes a job.

    Args:
        submission: what is to be run.
        jobs: all of the cluster.

    Raises:
        UserError: it cannot, as long as the jobs are what they are.
    """
    name = submission.name
    attempts = attempts_of(jobs, name)
    if not attempts:
        if any(job.id == name for job in jobs):
            raise UserError(f"--name: {name} is the id of another job there; choose another name")
        return Answer.SUBMIT
    is_running = not attempts[-1].has_ended
    told = attempts if submission.settings else attempts[-1:]  # a resume may repeat the last one alone
    is_known = submission.digest in {job.metadata.get(_DIGEST) for job in told}
    is_same = is_known or submission.digest is None
    if is_running and not is_same:
        raise UserError(
            f"{name} is running with other settings; stop it and resume it with these"
            + ("" if submission.is_resume else ", or choose another --name")
        )
    if is_running:
        return Answer.IS_RUNNING
    if submission.is_resume or all(job.code == REFUSED for job in attempts):
        return Answer.SUBMIT
    if not is_same:
        raise UserError(
            f"--name: {name} was submitted before with other settings; choose another name, or go on "
            f"with it by --resume {name}, with the file too if it ended before its first trial"
        )
    return Answer.HAS_ENDED


def attempts_of(jobs: Iterable[Job], name: str) -> list[Job]:
    """The jobs of a sweep, the first one first."""
    return sorted(
        (job for job in jobs if job.metadata.get(_SWEEP) == name), key=lambda job: job.started or 0.0
    )


def known_names(jobs: Iterable[Job]) -> list[str]:
    """The sweeps that were submitted."""
    return list(dict.fromkeys(job.metadata[_SWEEP] for job in jobs if _SWEEP in job.metadata))


def next_id(name: str, jobs: Iterable[Job]) -> str:
    """The id of a sweep's next job."""
    taken = {job.id for job in jobs}
    resumed = (f"{name}-resumed-{number}" for number in itertools.count(1))
    return next(each for each in itertools.chain([name], resumed) if each not in taken)


def entrypoint(submission: Submission, storage: str, is_known: bool = False) -> str:
    """The command on the head, as a shell reads it; `exec`, so that a stop reaches the driver itself.

    Args:
        submission: what is to be run.
        storage: where its sweep is.
        is_known: whether it was submitted before, so that a resume may find that nothing had begun.
    """
    words = ["python", "-m", "orchestrator.sweep"]
    if submission.settings is not None:
        words += [SETTINGS_FILE, "--resolved"]
    else:
        overrides = [f"storage={storage}", *submission.overrides]
        words += [part for override in overrides for part in ("--set", override)]
    if submission.is_resume and not (is_known and submission.settings):
        words += ["--resume", submission.name]
    else:
        words += ["--name", submission.name, "--or-resume"]
    words += [part for sweep in submission.imports for part in ("--import", sweep)]
    return f"exec {shlex.join([*words, '--address', 'auto'])}"


def metadata(submission: Submission, storage: str, commit: str | None) -> dict[str, str]:
    """What the job says of itself; no secret, since everyone who sees the cluster's page reads it."""
    facts = {
        "name": submission.name,
        _SWEEP: submission.name,
        _DIGEST: submission.digest,
        _STORAGE: storage,
        "version": _version(),
        "git_commit": commit,
    }
    return {key: value for key, value in facts.items() if value}


def _version() -> str | None:
    try:
        return version("monocon-sweep")
    except PackageNotFoundError:
        return None


def variables(commit: str | None) -> dict[str, str]:
    """The environment of the job; no secret either."""
    told = {COMMIT_VARIABLE: commit} if commit else {}
    return {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S), **told}
