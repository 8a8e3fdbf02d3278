"""A sweep whose front is trained again under further seeds; its driver is killed while it does so."""

from __future__ import annotations

import io
import signal
from pathlib import Path

import pandas as pd
import psutil
import pytest
from sweep_runs import SweepRun, run_sweep, wait_for
from tracked_story import assert_mlflow_tells_the_story

from orchestrator.confirmation import confirmations
from orchestrator.events import (
    SearchEnded,
    SweepResumed,
    TrialEnded,
    TrialProposed,
    TrialReported,
    TrialStarted,
)
from orchestrator.ledger import read_ledger

pytestmark = pytest.mark.slow
OF_SEED = "-seed-"


def ended_trials(ledger: Path) -> list[str]:
    """Those that confirm and have ended, as far as the ledger is written."""
    events = read_ledger(ledger) if ledger.exists() else []
    return [e.trial for e in events if isinstance(e, TrialEnded) and OF_SEED in e.trial]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> SweepRun:
    """Killed once the first trial that confirms has ended."""
    folder = tmp_path_factory.mktemp("confirmed")

    def kill(driver: psutil.Process) -> None:
        wait_for(lambda: ended_trials(folder / "runs" / "confirmed" / "ledger.jsonl"))
        driver.kill()

    return run_sweep(folder, "confirmed", "--set", "confirm.seeds=1", while_running=kill)


@pytest.fixture(scope="module")
def confirmed(killed: SweepRun) -> SweepRun:
    """Resumed to its end, under one seed more."""
    assert killed.returncode == -signal.SIGKILL
    more = ("--set", "confirm.seeds=2")
    sweep = run_sweep(killed.folder, killed.name, *more, resumed=True)
    assert sweep.returncode == 0, sweep.stderr
    return sweep


def test_every_configuration_of_the_front_is_trained_under_each_seed_once(confirmed: SweepRun) -> None:
    record = confirmed.record
    expected = {f"{point.trial}{OF_SEED}{seed}" for point in record.front for seed in (43, 44)}
    assert set(record.confirming) == expected
    for trial in record.confirming.values():
        assert trial.status == "completed"
        assert trial.config == {**record.trials[trial.confirms].config, "seed": trial.config["seed"]}
        assert trial.name == f"{trial.confirms}{OF_SEED}{trial.config['seed']}"
        base = record.trials[trial.confirms]
        assert [p.epoch for p in trial.points] == [p.epoch for p in base.points]
        assert [p.metrics["train_loss"] for p in trial.points] != [
            p.metrics["train_loss"] for p in base.points
        ]


def test_what_had_ended_is_not_repeated_and_what_had_not_goes_on(confirmed: SweepRun) -> None:
    events = confirmed.events
    (resumed,) = [index for index, event in enumerate(events) if isinstance(event, SweepResumed)]
    before = [e.trial for e in events[:resumed] if isinstance(e, TrialEnded)]
    after = [e.trial for e in events[resumed:] if isinstance(e, TrialStarted)]
    assert any(OF_SEED in trial for trial in before)
    assert not set(before) & set(after)
    proposed = [e.trial for e in events if isinstance(e, TrialProposed)]
    assert len(proposed) == len(set(proposed))
    reported = [(e.trial, e.report["epoch"]) for e in events if isinstance(e, TrialReported)]
    assert len(reported) == len(set(reported))


def test_mlflow_alone_tells_the_story(confirmed: SweepRun) -> None:
    assert_mlflow_tells_the_story(confirmed)


def test_the_search_is_as_without_it(confirmed: SweepRun) -> None:
    record = confirmed.record
    assert list(record.trials) == [f"trial-{number:04d}" for number in range(4)]
    assert sum(isinstance(event, SearchEnded) for event in confirmed.events) == 2
    assert "all 4 trials ended" in " ".join(confirmed.stdout.split())
    history = confirmed.client.get_metric_history(confirmed.parent.info.run_id, "hypervolume")
    assert sorted({metric.step for metric in history}) == [1, 2, 3, 4]


def test_nothing_but_reports_is_kept_of_them(confirmed: SweepRun) -> None:
    for trial in confirmed.record.confirming:
        assert not [place for place in confirmed.paths.written_for(trial) if Path(place).exists()]


def test_mlflow_has_a_run_of_each_with_what_it_confirms(confirmed: SweepRun) -> None:
    record, children = confirmed.record, confirmed.children
    assert set(children) == {*record.trials, *record.confirming}
    for trial in record.confirming.values():
        run = children[trial.name]
        assert run.info.status == "FINISHED"
        assert run.data.tags["confirms"] == trial.confirms
        assert run.data.tags["seed"] == run.data.params["seed"] == str(trial.config["seed"])
        assert run.data.tags["mlflow.parentRunId"] == confirmed.parent.info.run_id
        assert run.data.tags["on_front"] == "false"


def test_mlflow_tells_what_the_seeds_say_of_each_point(confirmed: SweepRun) -> None:
    found = confirmations(confirmed.record)
    assert set(found) == {(point.trial, point.epoch) for point in confirmed.record.front}
    for (trial, epoch), confirmation in found.items():
        run_id = confirmed.children[trial].info.run_id
        expected = {
            "confirmed_knn_accuracy_mean": confirmation.means["knn_accuracy"],
            "confirmed_d_eff_std": confirmation.deviations["d_eff"],
            "confirmed_front_probability": confirmation.front_probability,
            "confirmed_num_seeds": 2,
        }
        for name, value in expected.items():
            history = confirmed.client.get_metric_history(run_id, name)
            assert {m.step: m.value for m in history}[epoch] == pytest.approx(value)


def test_the_table_and_the_terminal_tell_it_too(confirmed: SweepRun) -> None:
    path = confirmed.client.download_artifacts(confirmed.parent.info.run_id, "pareto_front.csv")
    table = pd.read_csv(io.StringIO(Path(path).read_text()))
    assert table["num_seeds"].tolist() == [2] * len(confirmed.record.front)
    assert table["front_probability"].between(0, 1).all()
    text = " ".join(confirmed.stdout.split())
    assert "confirming trials:" in text
    assert "mean ± std" in text
