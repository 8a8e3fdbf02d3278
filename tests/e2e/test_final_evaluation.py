"""The final evaluation of a sweep's points on the test set, as its user finds it."""

from __future__ import annotations

import contextlib
import io
import json
import re
import signal
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch
from resumable_sweeps import is_dead, num_lines
from sweep_runs import SweepRun, run_sweep, wait_for

from orchestrator.events import PointEvaluated
from orchestrator.pages import SWEEP_PAGE
from orchestrator.paths import SweepPaths
from orchestrator.retention import RetentionRule, wanted_snapshots
from trainables.images import load_images
from trainables.metrics import evaluate
from trainables.reports import (
    CORRELATION,
    RECALL,
    SPECTRUM,
    SUMMARY,
    TRUNCATION,
    TRUNCATION_CURVE,
    TSNE,
)
from trainables.snapshots import EMBEDDINGS, WEIGHTS, read_snapshot
from trainables.validation import embed

pytestmark = pytest.mark.slow
HEALTHY = ("--trials", "2")
"""The first two trials of TINY, which do not diverge."""


def _evaluations(sweep: SweepRun) -> list[PointEvaluated]:
    return [event for event in sweep.events if isinstance(event, PointEvaluated)]


def test_exactly_the_points_of_the_front_are_evaluated(tiny_sweep: SweepRun) -> None:
    front = {(point.trial, point.epoch) for point in tiny_sweep.record.front}
    assert {(event.trial, event.epoch) for event in _evaluations(tiny_sweep)} == front
    assert len(_evaluations(tiny_sweep)) == len(front)


def test_test_metrics_are_those_of_the_snapshot(tiny_sweep: SweepRun) -> None:
    event = _evaluations(tiny_sweep)[0]
    snapshot = read_snapshot(tiny_sweep.paths.snapshot(event.trial, event.epoch))
    model, digits = snapshot.model, load_images("digits", snapshot.config.data, torch.device("cpu"))
    gallery, queries = embed(model, digits.test_gallery()).embedding, embed(model, digits.test).embedding
    expected = evaluate(gallery, digits.test_gallery().labels, queries, digits.test.labels)
    assert event.metrics["test_knn_accuracy"] == expected["knn_accuracy"]
    assert event.metrics["test_d_eff"] == expected["d_eff"]


def test_mlflow_holds_test_metrics_at_their_epoch(tiny_sweep: SweepRun) -> None:
    for event in _evaluations(tiny_sweep):
        run_id = tiny_sweep.children[event.trial].info.run_id
        for name, value in event.metrics.items():
            history = tiny_sweep.client.get_metric_history(run_id, name)
            assert value in [metric.value for metric in history if metric.step == event.epoch]


def test_mlflow_holds_the_data_of_the_figures(tiny_sweep: SweepRun) -> None:
    event = _evaluations(tiny_sweep)[0]
    run_id, place = tiny_sweep.children[event.trial].info.run_id, f"evaluations/epoch-{event.epoch:04d}"
    files = {Path(file.path).name for file in tiny_sweep.client.list_artifacts(run_id, place)}
    tables = {TRUNCATION, TRUNCATION_CURVE, RECALL, SPECTRUM, TSNE}
    assert files == {SUMMARY, CORRELATION, SWEEP_PAGE, *tables}
    summary = Path(tiny_sweep.client.download_artifacts(run_id, f"{place}/{SUMMARY}"))
    assert json.loads(summary.read_text())["test"] == event.metrics
    traces = {file.path for file in tiny_sweep.client.list_artifacts(run_id, "traces")}
    assert traces == {"traces/epoch-0003.npz", "traces/epoch-0006.npz"}


def test_table_of_the_front_has_test_metrics(tiny_sweep: SweepRun) -> None:
    run_id = tiny_sweep.parent.info.run_id
    path = Path(tiny_sweep.client.download_artifacts(run_id, "pareto_front.csv"))
    table = pd.read_csv(io.StringIO(path.read_text()))
    keys = zip(table["trial"], table["epoch"], strict=True)
    tested = dict(zip(keys, table["test_knn_accuracy"], strict=True))
    for event in _evaluations(tiny_sweep):
        expected = event.metrics["test_knn_accuracy"]
        assert tested[event.trial, event.epoch] == pytest.approx(expected)


def test_traces_stay_with_the_trials_of_the_front(tiny_sweep: SweepRun) -> None:
    folders = {path.name for path in (tiny_sweep.paths.root / "traces").iterdir()}
    assert folders == {point.trial for point in tiny_sweep.record.front}


def test_an_interrupted_and_a_failed_evaluation_are_told_and_done_by_a_resume(
    tmp_path: Path, no_ray_left: None
) -> None:
    settings = ("evaluation.points=best", "tracking.embeddings=all")
    arguments = (*HEALTHY, *(part for setting in settings for part in ("--set", setting)))
    paths = SweepPaths(tmp_path / "runs" / "damaged")

    def interrupt(driver: psutil.Process) -> None:
        wait_for(lambda: num_lines(paths.ledger, "SearchEnded"))
        driver.send_signal(signal.SIGINT)

    interrupted = run_sweep(tmp_path, "damaged", *arguments, while_running=interrupt)
    assert interrupted.returncode == 130
    assert interrupted.end.status == "interrupted"
    assert interrupted.parent.info.status == "KILLED"
    assert not _evaluations(interrupted)

    path = min(paths.root.glob(f"snapshots/*/*/{WEIGHTS}"))
    weights = path.read_bytes()
    path.write_bytes(b"not weights")
    failing = run_sweep(tmp_path, "damaged", *arguments, resumed=True)
    failed = [event for event in _evaluations(failing) if event.reason]
    assert [Path(paths.snapshot(event.trial, event.epoch)) / WEIGHTS for event in failed] == [path]
    assert "do not fit" in failed[0].reason
    assert len(_evaluations(failing)) > 1
    assert failing.returncode == 1
    assert "1 final evaluations failed" in failing.stdout and "--resume" in failing.stdout
    run_id = failing.children[failed[0].trial].info.run_id
    place = f"evaluations/epoch-{failed[0].epoch:04d}/failure.txt"
    assert "do not fit" in Path(failing.client.download_artifacts(run_id, place)).read_text()

    path.write_bytes(weights)
    again = run_sweep(tmp_path, "damaged", *arguments, resumed=True)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "evaluating 1 point on the test set" in again.stdout
    files = {file.path for file in again.client.list_artifacts(run_id, place.rpartition("/")[0])}
    assert place not in files and place.replace("failure.txt", SUMMARY) in files
    best = {trial.name: trial.best for trial in again.record.trials.values()}
    evaluated = {(event.trial, event.epoch) for event in _evaluations(again)}
    assert len(best) == 2
    assert all(point and (point.trial, point.epoch) in evaluated for point in best.values())
    _assert_embeddings_of_all_are_stored(again)


def _assert_embeddings_of_all_are_stored(sweep: SweepRun) -> None:
    """In MLflow: of every point that was on its own trial's front, and of what is evaluated."""
    stored = {
        (name, int(folder.path.removeprefix("snapshots/epoch-")))
        for name, child in sweep.children.items()
        for folder in sweep.client.list_artifacts(child.info.run_id, "snapshots")
    }
    assert stored == wanted_snapshots(sweep.record, RetentionRule("all", "best"))
    for name, epoch in stored:
        run_id = sweep.children[name].info.run_id
        files = sweep.client.list_artifacts(run_id, f"snapshots/epoch-{epoch:04d}")
        assert any(EMBEDDINGS in file.path for file in files)


def test_an_evaluation_that_dies_or_hangs_is_tried_again(tmp_path: Path, no_ray_left: None) -> None:
    name, timeout_s = "battered", 20
    ledger = tmp_path / "runs" / name / "ledger.jsonl"
    begun: list[float] = []

    def batter(driver: psutil.Process) -> None:
        killed = wait_for(lambda: _evaluating(driver))
        begun.append(time.time())
        killed.kill()
        wait_for(lambda: num_lines(ledger, "PointEvaluated") or is_dead(driver))
        hung = wait_for(lambda: _evaluating(driver))
        begun.append(time.time())
        hung.suspend()
        wait_for(lambda: is_dead(hung) or is_dead(driver))

    rule = (f"evaluation.timeout={timeout_s}s", "evaluation.points=best", "resources.max_concurrent=1")
    settings = [part for setting in rule for part in ("--set", setting)]
    sweep = run_sweep(tmp_path, name, *HEALTHY, *settings, while_running=batter)
    assert sweep.returncode == 0, sweep.stdout + sweep.stderr
    assert num_lines(ledger, "PointEvaluated") == len({(e.trial, e.epoch) for e in _evaluations(sweep)})
    assert not sweep.record.num_failed_evaluations
    said = " ".join(sweep.stdout.split())
    reasons = re.findall(r"epoch \d: (it\S* .*?); it is evaluated again \(retry [12]\)", said)
    assert len(reasons) == 2
    assert reasons[0].startswith("its process died: ")
    assert reasons[1] == f"it hung: no result for {timeout_s} s (evaluation.timeout), so it was killed"
    for fault, moment in zip(("killed", "hung"), begun, strict=True):
        taken_s = min(e.time for e in _evaluations(sweep) if e.time > moment) - moment
        print(f"{fault}: the next evaluation was over after {taken_s:.1f} s")


def _evaluating(driver: psutil.Process) -> psutil.Process | None:
    """A process that evaluates a point now."""
    for process in driver.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any(part.startswith("ray::_Evaluator.evaluate") for part in process.cmdline()):
                return process
    return None
