"""The job server of a Ray cluster, asked by Ray's own client; whatever it cannot do is one sentence."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.cluster_address import VARIABLES, Address, require_listener, require_ray
from orchestrator.errors import UserError
from orchestrator.ray_token import find_token, no_token, wrong_token
from orchestrator.submission import Job

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

_CHATTY = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
_LOOK_EVERY_S = 1.0
_NO_AGENT = "No available agent"
_AGENT_S = 60.0
"""So long a head's agent, which starts the jobs, may need to be ready."""
_ERROR = re.compile(r"[\w.]*(Error|Exception): \S")


def connect(address: Address) -> JobServer:
    """The job server of a cluster, which takes jobs of this version of Ray.

    Raises:
        UserError: nobody answers there, or it is no Ray, or of another version, or refuses the token.
    """
    if not address.is_url:
        with _told(address.name):
            require_listener(address)
            from ray.dashboard.utils import get_address_for_submission_client

            url = get_address_for_submission_client(address.text)
        address = Address(url, f"{address.name}, whose dashboard is {url}")
    require_ray(address, find_token(os.environ, Path.home()))
    os.environ[VARIABLES[0]] = address.text  # goes before the argument in Ray's client
    with _told(address.name):
        from orchestrator.timed_client import TimedClient

        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.ERROR)
        return JobServer(TimedClient(address), address)


class JobServer:
    """Ray's client, in terms of `Job`, with errors as sentences.

    Attributes:
        client: Ray's own.
        address: of the dashboard.
    """

    def __init__(self, client: JobSubmissionClient, address: Address) -> None:
        self.client = client
        self.address = address.text
        self._name = address.name

    def jobs(self) -> list[Job]:
        """All that were submitted, in any order."""
        with _told(self._name):
            found = self.client.list_jobs()
        return [_job(details) for details in found if details.submission_id]

    def job(self, job_id: str) -> Job:
        with _told(self._name):
            return _job(self.client.get_job_info(job_id))

    def submit(
        self, job_id: str, entrypoint: str, runtime_env: dict[str, Any], metadata: dict[str, str]
    ) -> None:
        """Starts a job, once the head can: one that has just been started is asked again."""
        deadline = time.monotonic() + _AGENT_S
        while True:
            try:
                with _told(self._name):
                    self.client.submit_job(
                        entrypoint=entrypoint,
                        submission_id=job_id,
                        runtime_env=runtime_env,
                        metadata=metadata,
                    )
                return
            except UserError as error:
                if _NO_AGENT not in str(error):
                    raise
                if time.monotonic() >= deadline:
                    raise UserError(
                        f"{self._name}: the head's dashboard agent, which starts jobs, has not been "
                        f"ready for {_AGENT_S:g} s; see dashboard_agent.log in Ray's logs on the head"
                    ) from None
                time.sleep(_LOOK_EVERY_S)

    def stop(self, job_id: str) -> None:
        with _told(self._name):
            self.client.stop_job(job_id)

    def log(self, job_id: str) -> str:
        """All that a job printed so far."""
        with _told(self._name):
            return self.client.get_job_logs(job_id)

    def page(self, job_id: str) -> str:
        """Where the dashboard shows a job."""
        return f"{self.address}/#/jobs/{job_id}"


def package_limit() -> int:
    """Bytes that a working directory must stay below: the job server's limit or the cluster's."""
    from ray._private.ray_constants import DASHBOARD_CLIENT_MAX_SIZE
    from ray._private.runtime_env.packaging import GCS_STORAGE_MAX_SIZE

    return min(DASHBOARD_CLIENT_MAX_SIZE, GCS_STORAGE_MAX_SIZE)


def _job(details: JobDetails) -> Job:
    assert details.submission_id is not None
    return Job(
        id=details.submission_id,
        status=details.status.value,
        exit_code=details.driver_exit_code,
        started=None if details.start_time is None else details.start_time / 1000,
        ended=None if details.end_time is None else details.end_time / 1000,
        message=details.message or "",
        metadata=details.metadata or {},
    )


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Says what Ray's client raises as one sentence.

    Args:
        name: of the address, as messages tell it.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        from ray.exceptions import AuthenticationError, RayError

        if isinstance(error, AuthenticationError):
            token = find_token(os.environ, Path.home())
            raise (wrong_token(name, token) if token else no_token(name, os.environ)) from None
        # RuntimeError is Ray's for whatever its server refuses, OSError includes requests' errors.
        if isinstance(error, (RuntimeError, OSError, ValueError, RayError)):
            raise UserError(f"{name}: {reason(error)}") from None
        raise


def reason(error: BaseException) -> str:
    """The one line that says it: of a traceback that Ray's server sends its last error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" .")]
    told = [line for line in lines if _ERROR.match(line)] or lines
    return told[-1] if told else type(error).__name__
