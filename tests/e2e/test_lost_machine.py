"""A driver whose machine is lost before its last events were copied to the URL: without Ray."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from drivers import finish, open_driver, search, settings_of, stop_logging
from mlflow import MlflowClient
from stores import URL, MemoryStore

from orchestrator import ledger_copy, operation_queue, storage_check
from orchestrator.driver import Driver
from orchestrator.lease import EXPIRES_S, Lease, LeaseLostError
from orchestrator.mlflow_runs import trial_params
from orchestrator.paths import SweepPaths
from trainables.places import read_object, write_object

pytestmark = pytest.mark.slow


def lose(driver: Driver) -> None:
    """Ends what belongs to a driver, as the loss of its machine does."""
    driver.tracker.close(0)
    assert driver.storage._removals is not None
    driver.storage._removals.close(0)
    driver.pages.close()
    driver.mlflow.close()
    driver.proposals.close()
    driver.ledger.close()
    stop_logging()


@pytest.fixture
def machines(memory: MemoryStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MemoryStore:
    monkeypatch.setattr(storage_check, "_NOT_SHARED", ())
    monkeypatch.setattr(ledger_copy, "_WAIT_S", 0.2)
    monkeypatch.setattr(operation_queue, "_MAX_RETRY_SECONDS", 0.5)
    monkeypatch.setenv("MONOCON_CACHE", str(tmp_path / "machine-1"))
    return memory


def test_what_was_not_copied_is_done_again_and_mlflow_and_store_agree_with_the_ledger(
    machines: MemoryStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = settings_of(tmp_path, f"storage={URL}", "search.trials=3")
    first = open_driver(settings)
    search(first, 0.9, 10.0)
    assert first.storage.flush(30)
    assert first.storage._copy is not None
    first.storage._copy._closing.set()  # from here on nothing is copied
    first.storage._copy._thread.join()
    search(first, 0.95, 5.0)  # dominates the first one, whose snapshot may go
    search(first, 0.96, 4.0)
    lose(first)
    copied = ledger_copy.read_copy(first.paths)
    assert first.paths.ledger.read_bytes().startswith(copied)
    assert b"trial-0001" not in copied

    monkeypatch.setenv("MONOCON_CACHE", str(tmp_path / "machine-2"))
    second = open_driver(settings)
    assert list(second.record.trials) == ["trial-0000"]
    assert {name for name in machines.names if "/trial-" in name} == {
        f"s/snapshots/trial-0000/epoch-0003/{name}" for name in ("snapshot.json", "weights.safetensors")
    }
    search(second, 0.8, 8.0)
    search(second, 0.7, 20.0)
    finish(second)
    assert second.num_unwritten == second.tracker.num_refused == second.storage.num_not_copied == 0

    stored = {tuple(name.split("/")[2:4]) for name in machines.names if name.startswith("s/snapshots/")}
    front = {(point.trial, f"epoch-{point.epoch:04d}") for point in second.record.front}
    assert stored == front == {("trial-0000", "epoch-0003"), ("trial-0001", "epoch-0003")}
    assert machines.names >= {"s/ledger.jsonl", "s/sweep.yaml", "s/sweep.log"}
    client = MlflowClient(settings.tracking.uri)
    runs = client.search_runs([second.tracker.runs.experiment_id])
    children = {run.data.tags["trial"]: run for run in runs if "trial" in run.data.tags}
    assert len(runs) == len(children) + 1
    assert children.keys() == second.record.trials.keys()
    for name, trial in second.record.trials.items():
        run = children[name]
        assert run.data.params == {key: str(value) for key, value in trial_params(trial).items()}
        history = client.get_metric_history(run.info.run_id, "d_eff")
        assert [(metric.step, metric.value) for metric in history] == [
            (point.epoch, point.metrics["d_eff"]) for point in trial.points
        ]
        assert run.info.status == "FINISHED"


def test_a_driver_that_was_taken_over_stops_and_leaves_the_store_to_the_other(
    machines: MemoryStore, tmp_path: Path
) -> None:
    settings = settings_of(tmp_path, f"storage={URL}", "search.trials=3")
    paths, before = SweepPaths.of(URL, "s"), dict[str, bytes]()
    with Lease(paths) as lease:
        driver = open_driver(settings, lease=lease)
        with driver:
            search(driver, 0.9, 10.0)
            assert driver.storage.flush(30)
            write_object(paths.at_url(paths.lease), b'{"id": "other", "host": "elsewhere"}')
            lease._renewed_at -= EXPIRES_S
            with pytest.raises(LeaseLostError):
                lease.require_mine()  # as its own thread does sooner or later
            before |= {name: read_object(f"{URL}/{name}") for name in machines.names}
            search(driver, 0.95, 5.0)
        stop_logging()
        driver.tidy()
        driver.print_outcome()
    assert driver.status == "failed"
    assert isinstance(driver.console.file, io.StringIO)
    told = driver.console.file.getvalue()
    assert f"{URL}/s: a driver on elsewhere took the sweep over" in told
    assert "did not take the last" not in told
    assert {name: read_object(f"{URL}/{name}") for name in machines.names} == before
