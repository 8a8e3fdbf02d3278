"""Ray's own client of a job server, with a time limit and without redirects."""

from __future__ import annotations

from typing import Any

import requests
from ray.job_submission import JobSubmissionClient

from orchestrator.cluster_address import Address
from orchestrator.errors import UserError
from orchestrator.ray_token import redirected

CONNECT_S, ANSWER_S = 10.0, 60.0


class TimedClient(JobSubmissionClient):
    """Gives up where Ray's client would wait for ever, and sends the token to one server alone.

    Args:
        address: of the dashboard.
    """

    def __init__(self, address: Address) -> None:
        self._name = address.name
        super().__init__(address.text)

    def _do_request(self, method: str, endpoint: str, **content: Any) -> requests.Response:
        """What each of Ray's methods asks by.

        Raises:
            UserError: no answer comes in time, or it leads elsewhere.
        """
        limits = (CONNECT_S, ANSWER_S)
        try:
            answer = super()._do_request(
                method, endpoint, timeout=limits, allow_redirects=False, **content
            )
        except requests.ConnectTimeout:
            raise UserError(f"{self._name}: no answer from there within {CONNECT_S:g} s") from None
        except requests.Timeout:
            raise UserError(f"{self._name}: no answer from there within {ANSWER_S:g} s") from None
        if answer.is_redirect:
            raise redirected(self._name, answer.url, answer.headers["Location"], endpoint)
        return answer
