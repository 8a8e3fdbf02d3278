"""Metrics of many runs by epoch, read from MLflow at once; `dashboards.sweep_store` asks for them.

MLflow's client reads one metric of one run at a time: minutes for a large sweep. What it asks
itself, the database or the server, is asked here for many.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING, Any

from dashboards.tracked_runs import Histories, Written
from orchestrator.mlflow_values import finite_or_not

if TYPE_CHECKING:
    from mlflow import MlflowClient

_HISTORIES = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
"""What MLflow's own pages ask for the curves of many runs."""
GROUP_RUNS, GROUP_ROWS = 100, 25_000
"""The most runs that MLflow's server answers about at once, and rows of an answer."""
_AT_ONCE = 4
"""Requests; a server of two cores answered 41,000 rows a second to four, 28,000 to one by one."""
_NOT_FOUND = 404

_Row = tuple[str, str, int, int, float]
"""A metric that was logged: run, name, epoch, time in milliseconds, value."""


def read_histories(
    client: MlflowClient, uri: str, run_ids: Sequence[str], names: Sequence[str]
) -> dict[str, Histories]:
    """Run id to metric to epoch to what was written last.

    What is reported meanwhile may be there for some metrics only, and is never for the first alone.

    Args:
        client: of the store.
        uri: of the store.
        run_ids: not more than GROUP_RUNS, with not more than GROUP_ROWS values of a metric.
        names: of metrics.

    Raises:
        mlflow.exceptions.MlflowException: it does not answer.
    """
    found: dict[str, dict[str, dict[int, Written]]] = {run_id: {} for run_id in run_ids}
    if names:
        store = _tracking_store(uri)
        rows = (
            _rows_of_database(store, run_ids, names)
            if hasattr(store, "ManagedSessionMaker")
            else _rows_of_server(client, store, run_ids, names)
        )
        for run_id, name, epoch, ms, value in rows:
            history = found[run_id].setdefault(name, {})
            # A lost answer makes the tracker write once more.
            if epoch not in history or history[epoch][0] <= ms / 1000:
                history[epoch] = (ms / 1000, finite_or_not(value))
    return dict(found)


def _tracking_store(uri: str) -> Any:
    """What the client itself asks; it knows more than the client passes on."""
    from mlflow.tracking._tracking_service.utils import _get_store

    return _get_store(uri)


def _rows_of_database(store: Any, run_ids: Sequence[str], names: Sequence[str]) -> Iterable[_Row]:
    """From MLflow's own table: 115,000 rows a second on a busy core. Its `get_metric_history_bulk`,
    which makes objects of each row, had 20,000 there, so that a large sweep took minutes.
    """
    from mlflow.store.tracking.dbmodels.models import SqlMetric
    from sqlalchemy import case, select

    of = SqlMetric.__table__.c
    value = case((of.is_nan, None), else_=of.value)
    asked = select(of.run_uuid, of.key, of.step, of.timestamp, value)
    asked = asked.where(of.run_uuid.in_(run_ids), of.key.in_(names))
    with store.ManagedSessionMaker() as session:
        rows = session.connection().execute(asked).all()
    return [(*row, math.nan if value is None else value) for *row, value in rows]


def _rows_of_server(
    client: MlflowClient, store: Any, run_ids: Sequence[str], names: Sequence[str]
) -> Iterable[_Row]:
    """The first metric before the others, so that whatever it has they have too."""
    yield from _rows_of_metric(client, store, run_ids, names[0])
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = pool.map(lambda name: _rows_of_metric(client, store, run_ids, name), names[1:])
        yield from chain.from_iterable(answers)


def _rows_of_metric(client: MlflowClient, store: Any, run_ids: Sequence[str], name: str) -> list[_Row]:
    from mlflow.utils.rest_utils import http_request, verify_rest_response

    asked = {"run_id": list(run_ids), "metric_key": name, "max_results": GROUP_ROWS}
    host = store.get_host_creds()
    answer = http_request(host, _HISTORIES, "GET", params=asked)
    assert answer is not None
    if answer.status_code != _NOT_FOUND:
        rows = verify_rest_response(answer, _HISTORIES).json()["metrics"]
        if len(rows) < GROUP_ROWS:
            return [(row["run_id"], name, row["step"], row["timestamp"], row["value"]) for row in rows]
    return [
        (run_id, name, metric.step, metric.timestamp, metric.value)
        for run_id in run_ids
        for metric in client.get_metric_history(run_id, name)
    ]
