"""The MLflow client in a process of its own, which is killed and goes on."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from sweep_runs import assert_ends_with_its_starter

from orchestrator.mlflow_process import MlflowProcess

pytestmark = pytest.mark.slow


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture
def process(uri: str, tmp_path: Path) -> Iterator[MlflowProcess]:
    process = MlflowProcess(uri, tmp_path / "log")
    yield process
    process.close()
    assert process.pid is None


def test_what_it_writes_is_in_the_store(process: MlflowProcess, uri: str) -> None:
    run = process.client.create_run("0", run_name="a run")
    process.client.log_batch(run.info.run_id, metrics=[Metric("m", 0.5, 1000, 7)])
    (found,) = MlflowClient(uri).search_runs(["0"])
    assert (found.info.run_name, found.data.metrics) == ("a run", {"m": 0.5})
    page = process.client.search_runs(["0"], max_results=1)
    assert [run.info.run_id for run in page] == [found.info.run_id]
    assert page.token is None


def test_an_error_is_raised_where_the_call_was_made(process: MlflowProcess) -> None:
    with pytest.raises(MlflowException, match="nobody") as caught:
        process.client.get_run("nobody")
    assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    with pytest.raises(FileNotFoundError):
        process.client.log_artifact(process.client.create_run("0").info.run_id, "/nowhere/at/all")


def test_one_that_is_killed_is_a_passing_reason(process: MlflowProcess) -> None:
    run_id = process.client.create_run("0").info.run_id
    first = process.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    with pytest.raises(ConnectionError, match=r"the process of the MLflow client ended \(-9\)"):
        process.client.set_tag(run_id, "name", "lost")
    process.client.set_tag(run_id, "name", "value")
    assert process.client.get_run(run_id).data.tags["name"] == "value"
    assert process.pid not in (None, first)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_stops_a_sweep_leaves_it_be(process: MlflowProcess, number: signal.Signals) -> None:
    run_id = process.client.create_run("0").info.run_id
    pid = process.pid
    assert pid is not None
    os.kill(pid, number)
    assert process.client.get_run(run_id).info.run_id == run_id
    assert process.pid == pid


@pytest.mark.parametrize("is_killed", [True, False], ids=["killed", "ends unclosed"])
def test_it_ends_with_the_process_that_started_it(uri: str, tmp_path: Path, is_killed: bool) -> None:
    starts = f"""
import pathlib
from orchestrator.mlflow_process import MlflowProcess
process = MlflowProcess({uri!r}, pathlib.Path("log"))
process.client.create_run("0")
"""
    assert_ends_with_its_starter(tmp_path, starts, is_killed)
