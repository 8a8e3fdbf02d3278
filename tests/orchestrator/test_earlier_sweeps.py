"""Reading earlier sweeps: from a ledger, and from a real MLflow store that the product's code wrote."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from sweep_events import settings_of

from orchestrator.earlier_sweeps import read_earlier
from orchestrator.errors import UserError
from orchestrator.events import (
    Event,
    SweepStarted,
    TrialEnded,
    TrialImported,
    TrialProposed,
    TrialReported,
)
from orchestrator.imports import EarlierSweep
from orchestrator.ledger import encode
from orchestrator.mlflow_runs import MlflowRuns
from orchestrator.paths import SweepPaths
from orchestrator.record import SweepRecord
from orchestrator.search_space import to_trial_config
from orchestrator.settings import SweepSettings
from orchestrator.settings_text import to_yaml
from trainables.reports import METRICS, EpochReport

NONE = {"head.kind": "none", "temperature": 0.1}
MLP = {"head.kind": "mlp", "head.depth": 2, "temperature": 1 / 3}


def metrics(seed: float, **changes: float) -> dict[str, float]:
    return {name: seed + 0.1 * index for index, name in enumerate(METRICS)} | changes


def reported(trial: str, epoch: int, **changes: float) -> TrialReported:
    training = {e: {"train_loss": 1.0, "epoch_time_s": 2.0} for e in range(epoch - 2, epoch + 1)}
    report = EpochReport(epoch, metrics(epoch, **changes), training)
    return TrialReported(trial, report.to_dict(), time=float(epoch))


def history(settings: SweepSettings) -> list[Event]:
    """A sweep that runs: one trial completed, one failed, one under way, one just proposed; and one
    that repeats the first under a further seed, and is none of the search.
    """

    def proposed(number: int, values: dict[str, Any]) -> TrialProposed:
        config = to_trial_config(settings.trial, values).model_dump()
        return TrialProposed(f"trial-{number:04d}", number, values, config, time=0.0)

    return [
        SweepStarted("s", settings.model_dump(mode="json"), {}, 0.0, "id-of-s"),
        proposed(0, NONE),
        proposed(1, MLP),
        proposed(2, MLP),
        reported("trial-0000", 5),
        reported("trial-0000", 10, d_eff=math.inf),
        TrialEnded("trial-0000", "completed", "", 11.0),
        reported("trial-0001", 5),
        TrialEnded("trial-0001", "failed", "out of memory", 12.0),
        reported("trial-0002", 5),
        proposed(3, NONE),
        replace(proposed(0, NONE), trial="trial-0000-seed-43", confirms="trial-0000"),
        reported("trial-0000-seed-43", 5),
    ]


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store that holds the sweep of `history` as digits-1."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"
    track(settings_of(tracking={"uri": uri}), "digits-1")
    return uri


@pytest.fixture
def settings(tmp_path: Path, uri: str) -> SweepSettings:
    return settings_of(storage=str(tmp_path / "runs"), tracking={"uri": uri})


def write_ledger(settings: SweepSettings, name: str, *more: Event, torn: bytes = b"") -> SweepPaths:
    paths = SweepPaths.of(settings.storage, name)
    paths.root.mkdir(parents=True)
    lines = [encode(event) for event in [*history(settings), *more]]
    paths.ledger.write_bytes(b"".join(lines) + torn)
    return paths


def track(settings: SweepSettings, name: str) -> None:
    """Writes the same sweep to MLflow."""
    runs = MlflowRuns(
        MlflowClient(settings.tracking.uri),
        settings,
        name,
        f"id-of-{name}",
        {},
        lambda trial, run_id: None,
    )
    runs.open(to_yaml(settings))
    record = SweepRecord.of(settings, history(settings))
    for event in history(settings):
        match event:
            case TrialProposed():
                runs.create_child(record.trial(event.trial), event.time)
            case TrialReported():
                report = EpochReport.from_dict(event.report)
                runs.log_report(
                    event.trial, {**report.training, report.epoch: report.metrics}, event.time
                )
            case TrialEnded():
                runs.end_child(event)
            case _:
                pass


def check(sweep: EarlierSweep, name: str) -> None:
    assert [trial.source for trial in sweep.trials] == [f"{name}/trial-{n:04d}" for n in range(4)]
    assert [trial.has_failed for trial in sweep.trials] == [False, True, False, False]
    assert [[report.epoch for report in trial.reports] for trial in sweep.trials] == [
        [5, 10],
        [5],
        [5],
        [],
    ]
    assert sweep.trials[0].reports[0] == EpochReport(5, metrics(5))
    assert sweep.trials[0].reports[1] == EpochReport(10, metrics(10, d_eff=math.inf))
    assert sweep.trials[2].settings["temperature"] == 1 / 3
    assert sweep.trials[2].settings["head.depth"] == 2
    assert sweep.trials[2].settings["data.source"] is None
    assert sweep.trials[0].settings["head.kind"] == "none"


@pytest.mark.parametrize("is_named", [True, False])
def test_a_ledger_is_read_by_name_and_by_folder(settings: SweepSettings, is_named: bool) -> None:
    paths = write_ledger(settings, "digits-1", torn=b'12345678 {"event":')
    before = paths.ledger.read_bytes()
    check(read_earlier("digits-1" if is_named else str(paths.root), settings), "digits-1")
    assert paths.ledger.read_bytes() == before


def test_what_a_sweep_imported_keeps_its_source(settings: SweepSettings) -> None:
    report = EpochReport(5, metrics(1)).to_dict()
    config = to_trial_config(settings.trial, NONE).model_dump()
    event = TrialImported("import-0000", "digits-0/trial-0007", NONE, config, [report], 0.0)
    write_ledger(settings, "digits-1", event)
    trial = read_earlier("digits-1", settings).trials[-1]
    assert (trial.source, list(trial.reports)) == ("digits-0/trial-0007", [EpochReport(5, metrics(1))])


@pytest.mark.parametrize("name", ["digits-1", "mlflow:digits-1"])
def test_mlflow_tells_the_same_as_the_ledger(settings: SweepSettings, name: str) -> None:
    check(read_earlier(name, settings), "digits-1")


def test_the_newest_of_its_name_is_read_from_mlflow(settings: SweepSettings) -> None:
    runs = MlflowRuns(
        MlflowClient(settings.tracking.uri), settings, "digits-2", "old", {}, lambda trial, run_id: None
    )
    runs.open(to_yaml(settings))
    client = MlflowClient(settings.tracking.uri)
    tags = {"sweep": "digits-2", "mlflow.source.name": "orchestrator.sweep"}
    tomorrow = client.get_run(runs.run_id).info.start_time + 86_400_000
    newest = client.create_run(runs.experiment_id, start_time=tomorrow, tags=tags)
    tags = {"trial": "trial-0000", "mlflow.parentRunId": newest.info.run_id}
    child = client.create_run(runs.experiment_id, tags=tags)
    client.log_param(child.info.run_id, "epochs", 3)
    (trial,) = read_earlier("digits-2", settings).trials
    assert (trial.settings, trial.reports) == ({"epochs": 3}, [])


def test_the_storage_comes_before_mlflow_unless_mlflow_is_named(settings: SweepSettings) -> None:
    SweepPaths.of(settings.storage, "digits-1").root.mkdir(parents=True)
    SweepPaths.of(settings.storage, "digits-1").ledger.touch()
    assert read_earlier("digits-1", settings).trials == []
    assert len(read_earlier("mlflow:digits-1", settings).trials) == 4


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("nobody", "{0}/runs/nobody or {cwd}/nobody or {uri}"),
        ("mlflow:nobody", "{uri}"),
        ("{0}/elsewhere", "{0}/elsewhere"),
    ],
)
def test_a_sweep_that_is_nowhere_is_an_error(
    settings: SweepSettings, tmp_path: Path, name: str, places: str
) -> None:
    empty = settings.tracking.model_copy(update={"uri": f"sqlite:///{tmp_path}/mlflow.db"})
    name = name.format(tmp_path)
    for store in (settings.tracking, empty):
        with pytest.raises(UserError) as caught:
            read_earlier(name, settings.model_copy(update={"tracking": store}))
        where = places.format(tmp_path, cwd=Path.cwd(), uri=store.uri)
        assert str(caught.value) == (
            f"--import {name}: there is no such sweep in {where}; "
            "name one, the path of its folder, or mlflow:NAME"
        )
    assert not (tmp_path / "mlflow.db").exists()


def test_a_damaged_ledger_is_an_error(settings: SweepSettings) -> None:
    paths = write_ledger(settings, "digits-1")
    paths.ledger.write_bytes(paths.ledger.read_bytes().replace(b'"number":1', b'"number":7'))
    with pytest.raises(UserError, match=r"ledger.jsonl:3: the ledger is damaged here"):
        read_earlier("digits-1", settings)


def test_a_name_that_no_sweep_can_have_is_one_line(settings: SweepSettings) -> None:
    for name in ("a'b", "mlflow:a' or tags.sweep != '"):
        with pytest.raises(UserError, match=r"^--import .*: there is no such sweep in [^\n]+$"):
            read_earlier(name, settings)
