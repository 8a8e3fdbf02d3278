"""May this sweep write to its tracking server? Asked with MLflow's own credentials before Ray starts."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from orchestrator.errors import UserError
from orchestrator.process_environment import prepare_mlflow
from orchestrator.tracking_check import TIMEOUT_S, refusal

if TYPE_CHECKING:
    import requests

_FOUND = "mlflow/experiments/get-by-name"
_MAKE = "mlflow/experiments/create"
_CHANGE = "mlflow/experiments/set-experiment-tag"


def require_access(uri: str, experiment: str) -> None:
    """Checks that an MLflow server takes our credentials, and lets us write to the experiment.

    Whether we may write is asked by a request that lacks what it must have: a server that lets us
    answers that it is incomplete, and changes nothing.

    Args:
        uri: the tracking URI; one that is no server's has nobody to ask.
        experiment: its name; where there is none yet, whether one may be made.

    Raises:
        UserError: it wants credentials, refuses ours, or they are not enough.
    """
    if not uri.startswith(("http://", "https://")):
        return
    ask = _asker(uri)
    found = ask(_FOUND, "GET", params={"experiment_name": experiment})
    _require_allowed(found, uri, f"to read the experiment {experiment!r}")
    if found.status_code == 200:
        tagless = {"experiment_id": found.json()["experiment"]["experiment_id"]}
        answer = ask(_CHANGE, "POST", json=tagless)
        _require_allowed(answer, uri, f"to write to the experiment {experiment!r}")
    elif found.status_code == 404:
        _require_allowed(ask(_MAKE, "POST", json={}), uri, f"to make the experiment {experiment!r}")


def _asker(uri: str) -> Callable[..., requests.Response]:
    prepare_mlflow()
    from mlflow.exceptions import MlflowException
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    request = functools.partial(
        http_request, get_default_host_creds(uri), timeout=TIMEOUT_S, raise_on_status=False
    )

    def ask(place: str, method: str, **content: Any) -> requests.Response:
        try:
            answer = request(f"/api/2.0/{place}", method, **content)
        except MlflowException as error:
            raise UserError(
                f"tracking.uri: no answer from {uri} ({' '.join(str(error).split())})",
                location=("tracking", "uri"),
            ) from error
        assert answer is not None
        return answer

    return ask


def _require_allowed(answer: requests.Response, uri: str, what: str) -> None:
    if answer.status_code in (401, 403) or answer.status_code >= 500:
        text = refusal(uri, answer.status_code, what, answer.text)
        raise UserError(f"tracking.uri: {text}", location=("tracking", "uri"))
