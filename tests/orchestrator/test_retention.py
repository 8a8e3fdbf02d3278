from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from stores import URL, MemoryStore
from sweep_events import (
    EXAMPLES,
    OBJECTIVES,
    TRIALS,
    confirming,
    ended,
    epochs_of_a_sweep,
    imported,
    proposed,
    record_of,
    reported,
    reports,
    started,
)

from orchestrator.events import Event, TrialReported, TrialStatus
from orchestrator.operation_queue import Operation
from orchestrator.paths import SweepPaths
from orchestrator.record import SweepRecord
from orchestrator.retention import (
    EmbeddingsOf,
    EvaluatedPoints,
    Key,
    OwnFront,
    Retention,
    RetentionRule,
    WantedSnapshots,
    wanted_snapshots,
)
from trainables.places import exists, write_object
from trainables.reports import EpochReport

Epochs = list[tuple[str, float, float]]


RULES = [(embeddings, of) for embeddings in ("front", "all", "none") for of in ("front", "best", "none")]


class Sweep:
    """Workers that write snapshots as they should, and a driver that hears of every report."""

    def __init__(self, root: Path, embeddings: EmbeddingsOf) -> None:
        self.paths = SweepPaths(root)
        self.record = record_of()
        self.retention = Retention(self.paths, RetentionRule(embeddings, "front"))
        make_rule = OwnFront(OBJECTIVES)
        self._rules = {trial: make_rule() for trial in TRIALS}

    def report(self, event: TrialReported) -> None:
        report = EpochReport.from_dict(event.report)
        if self._rules[event.trial](report):
            folder = Path(self.paths.snapshot(event.trial, report.epoch))
            folder.mkdir(parents=True)
            (folder / "weights.safetensors").write_bytes(b"weights")
        self.record.apply(event)
        self.retention(event, self.record)

    def on_disk(self) -> set[Path]:
        return {path.parent for path in self.paths.root.rglob("weights.safetensors")}


def folders(sweep: Sweep, record: SweepRecord) -> set[Path]:
    return {Path(sweep.paths.snapshot(point.trial, point.epoch)) for point in record.front}


@EXAMPLES
@given(epochs_of_a_sweep)
def test_on_disk_are_exactly_the_fronts_snapshots(
    tmp_path_factory: pytest.TempPathFactory, epochs: Epochs
) -> None:
    sweep = Sweep(tmp_path_factory.mktemp("sweep"), "front")
    for event in reports(epochs):
        sweep.report(event)
        assert sweep.on_disk() == folders(sweep, sweep.record)


@EXAMPLES
@given(epochs_of_a_sweep)
def test_with_all_embeddings_each_trials_own_front_is_on_disk(
    tmp_path_factory: pytest.TempPathFactory, epochs: Epochs
) -> None:
    sweep = Sweep(tmp_path_factory.mktemp("sweep"), "all")
    for event in reports(epochs):
        sweep.report(event)
    alone = [record_of(*[e for e in reports(epochs) if e.trial == trial]) for trial in TRIALS]
    assert sweep.on_disk() == set().union(*(folders(sweep, record) for record in alone))


@EXAMPLES
@given(epochs_of_a_sweep)
def test_a_trials_own_front_agrees_with_a_record_of_that_trial(epochs: Epochs) -> None:
    is_wanted = OwnFront(OBJECTIVES)()
    record = record_of()
    for event in reports([(TRIALS[0], accuracy, d_eff) for _, accuracy, d_eff in epochs]):
        record.apply(event)
        on_front = event.report["epoch"] in [point.epoch for point in record.front]
        assert is_wanted(EpochReport.from_dict(event.report)) == on_front


def test_each_trial_gets_a_front_of_its_own() -> None:
    make_rule = OwnFront(OBJECTIVES)
    good = EpochReport.from_dict(reported(TRIALS[0], 1, accuracy=0.9, d_eff=2.0).report)
    bad = EpochReport.from_dict(reported(TRIALS[1], 1, accuracy=0.1, d_eff=9.0).report)
    assert make_rule()(good)
    assert make_rule()(bad)


def test_the_finish_leaves_no_empty_folder_and_no_partial_snapshot(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, "front")
    sweep.report(reported(TRIALS[0], 1, accuracy=0.5, d_eff=5.0))
    sweep.report(reported(TRIALS[1], 1, accuracy=0.6, d_eff=4.0))
    partial = Path(sweep.paths.snapshots(TRIALS[1])) / ".epoch-0002.0badc0de"
    partial.mkdir()
    Path(sweep.paths.snapshot(TRIALS[1], 3)).mkdir()
    sweep.retention.finish(sweep.record)
    assert not Path(sweep.paths.snapshots(TRIALS[0])).exists()
    assert list(Path(sweep.paths.snapshots(TRIALS[1])).iterdir()) == [
        Path(sweep.paths.snapshot(TRIALS[1], 1))
    ]


def test_other_events_remove_nothing(tmp_path: Path) -> None:
    record = record_of(reported(TRIALS[0], 1, accuracy=0.5, d_eff=5.0))
    paths = SweepPaths(tmp_path)
    Path(paths.snapshot(TRIALS[0], 1)).mkdir(parents=True)
    retention = Retention(paths, RetentionRule("front", "front"))
    for event in (started(TRIALS[0]), ended(TRIALS[0])):
        retention(event, record)
    assert Path(paths.snapshot(TRIALS[0], 1)).is_dir()


@pytest.mark.parametrize("embeddings", ["front", "none"])
def test_wanted_is_the_front_alone(embeddings: EmbeddingsOf) -> None:
    record = record_of(reported(TRIALS[0], 1, 0.5, 5.0), reported(TRIALS[1], 2, 0.6, 4.0))
    assert wanted_snapshots(record, RetentionRule(embeddings, "front")) == {(TRIALS[1], 2)}
    assert wanted_snapshots(record, RetentionRule("all", "front")) == {(TRIALS[0], 1), (TRIALS[1], 2)}


@pytest.mark.parametrize("accuracy", [float("nan"), float("inf")])
def test_a_report_that_is_not_finite_is_never_wanted(accuracy: float) -> None:
    is_wanted = OwnFront({"knn_accuracy": "max", "d_eff": "min"})()
    assert not is_wanted(EpochReport(1, {"knn_accuracy": accuracy, "d_eff": 3.0}))
    assert is_wanted(EpochReport(2, {"knn_accuracy": 0.5, "d_eff": 3.0}))


def test_a_snapshot_that_was_never_reported_goes_with_its_trial(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path)
    Path(paths.snapshot("trial-0000", 5)).mkdir(parents=True)
    retention = Retention(paths, RetentionRule("front", "front"))
    event = ended("trial-0000", "failed")
    retention(event, record_of(proposed("trial-0000"), event))
    assert paths.stored_snapshots("trial-0000") == set()


def test_with_best_points_each_trials_best_is_kept_beside_the_front() -> None:
    events = reports([(TRIALS[0], 0.9, 5.0), (TRIALS[1], 0.6, 7.0), (TRIALS[1], 0.7, 8.0)])
    record, rule = record_of(*events, evaluated="best"), RetentionRule("front", "best")
    assert wanted_snapshots(record, rule) == {(TRIALS[0], 1), (TRIALS[1], 3)}
    assert record.evaluated_points() == wanted_snapshots(record, rule)
    assert record_of(*events).evaluated_points() == {(TRIALS[0], 1)}
    assert record_of(*events, evaluated="none").evaluated_points() == set()


@EXAMPLES
@given(epochs_of_a_sweep)
def test_best_point_is_the_first_of_the_highest_accuracy(epochs: Epochs) -> None:
    record = record_of(*reports(epochs))
    for trial in record.trials.values():
        accuracies = [point.metrics["knn_accuracy"] for point in trial.points]
        expected = trial.points[accuracies.index(max(accuracies))] if accuracies else None
        assert trial.best == expected


@EXAMPLES
@given(epochs_of_a_sweep)
def test_every_point_that_is_evaluated_was_written_by_its_worker(epochs: Epochs) -> None:
    events = reports(epochs)
    written: set[Key] = set()
    workers = {trial: OwnFront({"knn_accuracy": "max", "d_eff": "min"})() for trial in TRIALS}
    for event in events:
        if isinstance(event, TrialReported):
            report = EpochReport.from_dict(event.report)
            if workers[event.trial](report):
                written.add((event.trial, report.epoch))
    assert record_of(*events, evaluated="best").evaluated_points() <= written


@pytest.mark.parametrize("kind", ["snapshots", "traces", "evaluations", "checkpoints"])
def test_what_a_killed_writer_left_is_removed_at_the_end(tmp_path: Path, kind: str) -> None:
    paths = SweepPaths(tmp_path)
    trial = TRIALS[0]
    left = getattr(paths, kind)(trial) / ".epoch-0001.0123abcd"
    left.mkdir(parents=True)
    (left / "part").touch()
    (left.parent / ".0123abcd.npz").touch()
    Retention(paths, RetentionRule()).finish(record_of(proposed(trial)))
    assert not left.parent.exists()


def test_traces_go_when_their_trial_ends_without_a_snapshot(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path)
    for trial in TRIALS:
        Path(paths.traces(trial)).mkdir(parents=True)
    events = [*reports([(TRIALS[0], 0.9, 5.0), (TRIALS[1], 0.6, 7.0), (TRIALS[2], 0.6, 7.0)])]
    record = record_of(*events, ended(TRIALS[0]), ended(TRIALS[1]))
    Retention(paths, RetentionRule())(ended(TRIALS[1]), record)
    assert Path(paths.traces(TRIALS[0])).is_dir()
    assert not Path(paths.traces(TRIALS[1])).exists()
    assert Path(paths.traces(TRIALS[2])).is_dir()  # it has not ended: it may get a point there yet


def test_a_resume_removes_at_once_what_a_killed_worker_did_not_live_to_report(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, "front")
    sweep.report(reported(TRIALS[0], 5, accuracy=0.5, d_eff=8.0))
    unreported = Path(sweep.paths.snapshot(TRIALS[0], 10))
    unreported.mkdir()
    retention = Retention(sweep.paths, RetentionRule())
    retention.resume(sweep.record)
    assert not unreported.exists()
    unreported.mkdir()  # its trial's new worker comes there again, while another trial reports
    other = reported(TRIALS[1], 5, accuracy=0.1, d_eff=9.0)
    sweep.record.apply(other)
    retention(other, sweep.record)
    assert unreported.exists()
    assert sweep.paths.stored_snapshots(TRIALS[0]) == {(TRIALS[0], 5), (TRIALS[0], 10)}


def write_checkpoint(paths: SweepPaths, trial: str) -> Path:
    path = Path(paths.checkpoint(trial))
    path.parent.mkdir(parents=True)
    path.touch()
    return path


@pytest.mark.parametrize("status", ["completed", "failed", "stopped", "interrupted"])
def test_a_checkpoint_stays_only_with_a_trial_that_a_resume_goes_on_with(
    tmp_path: Path, status: TrialStatus
) -> None:
    paths = SweepPaths(tmp_path)
    path, other = (write_checkpoint(paths, trial) for trial in TRIALS[:2])
    retention, record = Retention(paths, RetentionRule()), record_of(ended(TRIALS[0], status))
    for act in (lambda: retention(ended(TRIALS[0], status), record), lambda: retention.finish(record)):
        act()
        assert path.parent.exists() == (status == "interrupted")
        assert other.exists()


def test_a_resume_removes_the_checkpoints_of_trials_that_had_ended(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path)
    over, open_ = (write_checkpoint(paths, trial) for trial in TRIALS[:2])
    Retention(paths, RetentionRule()).resume(record_of(ended(TRIALS[0])))
    assert not over.exists()
    assert open_.exists()


def test_a_snapshot_whose_report_a_checkpoint_may_hold_waits_for_it(tmp_path: Path) -> None:
    paths, trial = SweepPaths(tmp_path), TRIALS[0]
    write_checkpoint(paths, trial)
    for epoch in (1, 2):
        Path(paths.snapshot(trial, epoch)).mkdir(parents=True)
    record = record_of(reported(trial, 1, 0.5, 5.0), ended(trial, "interrupted"))
    retention = Retention(paths, RetentionRule())
    retention(ended(trial, "interrupted"), record)
    retention.finish(record)
    again = Retention(paths, RetentionRule())
    again.resume(record)
    assert paths.stored_snapshots(trial) == {(trial, 1), (trial, 2)}
    record.apply(reported(trial, 2, 0.6, 4.0))
    again(reported(trial, 2, 0.6, 4.0), record)
    assert paths.stored_snapshots(trial) == {(trial, 2)}


def test_without_a_checkpoint_an_unreported_snapshot_goes(tmp_path: Path) -> None:
    paths, trial = SweepPaths(tmp_path), TRIALS[0]
    Path(paths.snapshot(trial, 1)).mkdir(parents=True)
    Retention(paths, RetentionRule()).resume(record_of(ended(trial, "interrupted")))
    assert not Path(paths.snapshot(trial, 1)).exists()


def test_traces_of_an_interrupted_trial_stay(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path)
    for trial in TRIALS[:2]:
        Path(paths.traces(trial)).mkdir(parents=True)
        (Path(paths.traces(trial)) / "epoch-0001.npz").touch()
    record = record_of(ended(TRIALS[0], "interrupted"), ended(TRIALS[1], "stopped"))
    Retention(paths, RetentionRule()).finish(record)
    assert paths.stored_traces(TRIALS[0])
    assert not Path(paths.traces(TRIALS[1])).exists()


@pytest.mark.parametrize("embeddings", ["front", "all"])
def test_imported_points_have_no_snapshots_here(embeddings: EmbeddingsOf) -> None:
    events = [
        imported("import-0000", (0.9, 3.0)),
        reported(TRIALS[0], 1, 0.95, 9.0),
        reported(TRIALS[1], 1, 0.8, 8.0),  # which the imported point dominates
    ]
    record = record_of(*events)
    wanted = wanted_snapshots(record, RetentionRule(embeddings, "front"))
    assert wanted == {(TRIALS[0], 1)} | ({(TRIALS[1], 1)} if embeddings == "all" else set())
    assert record.evaluated_points() == {(TRIALS[0], 1)}
    best = record_of(*events, evaluated="best").evaluated_points()
    assert best == {(TRIALS[0], 1), (TRIALS[1], 1)}


@pytest.mark.parametrize(("status", "is_kept"), [("completed", False), ("interrupted", True)])
def test_a_trial_that_confirms_keeps_its_checkpoint_until_it_is_done(
    status: TrialStatus, is_kept: bool, tmp_path: Path
) -> None:
    sweep, name = Sweep(tmp_path, "all"), f"{TRIALS[0]}-seed-43"
    checkpoint = Path(sweep.paths.checkpoint(name))
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"state")
    for event in (confirming(TRIALS[0], 43), reported(name, 1, 0.9, 3.0), ended(name, status)):
        sweep.record.apply(event)
        sweep.retention(event, sweep.record)
    assert checkpoint.exists() == is_kept
    sweep.retention.finish(sweep.record)
    assert checkpoint.exists() == is_kept
    assert not wanted_snapshots(sweep.record, RetentionRule("all", "best"))


@pytest.mark.parametrize(("embeddings", "evaluated"), RULES)
@EXAMPLES
@given(epochs_of_a_sweep)
def test_wanted_event_by_event_is_wanted_at_once(
    embeddings: EmbeddingsOf, evaluated: EvaluatedPoints, epochs: Epochs
) -> None:
    rule, record = RetentionRule(embeddings, evaluated), record_of()
    wanted, before = WantedSnapshots(rule), set[Key]()
    every = {(event.trial, event.report["epoch"]) for event in reports(epochs)}
    for event in reports(epochs):
        record.apply(event)
        changed = wanted.update(record, event.trial)
        now = wanted_snapshots(record, rule)
        assert {key for key in every if key in wanted} == now
        assert set().union(*(wanted.of(trial) for trial in TRIALS)) == now
        assert before ^ now <= changed
        before = now


def test_an_event_touches_no_folder_of_a_trial_that_it_does_not_concern(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touched: list[str] = []
    monkeypatch.setattr("shutil.rmtree", lambda path, **_: touched.append(Path(path).name))
    record = record_of(*reports([(TRIALS[0], 0.9, 5.0), (TRIALS[1], 0.6, 7.0)]))
    retention = Retention(SweepPaths(tmp_path), RetentionRule())
    for trial in TRIALS[:2]:
        record.apply(ended(trial))
        retention(ended(trial), record)
    assert touched == [TRIALS[0], TRIALS[1], TRIALS[1]]  # checkpoints of both, traces of the second


class StoredSweep(Sweep):
    """The same with a store for what workers write, and removals that wait to be done."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, "front")
        self.paths = SweepPaths(root, f"{URL}/s")
        self.removals: list[Operation] = []
        self.retention = Retention(self.paths, RetentionRule(), self.removals.append)

    def write(self, trial: str, epoch: int) -> None:
        write_object(f"{self.paths.snapshot(trial, epoch)}/weights.safetensors", b"weights")
        write_object(f"{self.paths.snapshot(trial, epoch)}/snapshot.json", b"{}")

    def report(self, event: TrialReported) -> None:
        report = EpochReport.from_dict(event.report)
        if self._rules[event.trial](report):
            self.write(event.trial, report.epoch)
        self.tell(event)

    def tell(self, event: Event) -> None:
        self.record.apply(event)
        self.retention(event, self.record)

    def remove(self) -> None:
        while self.removals:
            self.removals.pop(0)()

    def stored(self) -> set[Key]:
        return set().union(*(self.paths.stored_snapshots(trial) for trial in TRIALS))


@pytest.fixture
def stored_sweep(tmp_path: Path, memory: MemoryStore) -> StoredSweep:
    return StoredSweep(tmp_path)


def front_of(sweep: Sweep) -> set[Key]:
    return {(point.trial, point.epoch) for point in sweep.record.front}


def test_in_a_store_are_exactly_the_fronts_snapshots_once_the_removals_are_done(
    stored_sweep: StoredSweep,
) -> None:
    epochs = [(TRIALS[0], 0.5, 5.0), (TRIALS[1], 0.6, 4.0), (TRIALS[0], 0.7, 6.0), (TRIALS[2], 0.9, 4.0)]
    for event in reports(epochs):
        before = stored_sweep.stored()
        stored_sweep.report(event)
        assert stored_sweep.stored() >= before  # nothing goes before its turn
    stored_sweep.remove()
    assert stored_sweep.stored() == front_of(stored_sweep) == {(TRIALS[2], 4)}


def test_in_a_store_what_a_trial_did_not_live_to_report_goes_with_it(stored_sweep: StoredSweep) -> None:
    stored_sweep.report(reported(TRIALS[0], 1, 0.5, 5.0))
    stored_sweep.write(TRIALS[0], 2)
    write_object(str(stored_sweep.paths.checkpoint(TRIALS[0])), b"")
    stored_sweep.tell(ended(TRIALS[0], "interrupted"))
    stored_sweep.remove()
    assert stored_sweep.stored() == {(TRIALS[0], 1), (TRIALS[0], 2)}  # the checkpoint may tell of it
    stored_sweep.tell(ended(TRIALS[0], "completed"))
    stored_sweep.remove()
    assert stored_sweep.stored() == {(TRIALS[0], 1)}
    assert not exists(stored_sweep.paths.checkpoint(TRIALS[0]))


def test_a_resume_removes_what_is_of_trials_that_the_ledger_does_not_know(
    stored_sweep: StoredSweep, memory: MemoryStore
) -> None:
    stored_sweep.report(reported(TRIALS[0], 1, 0.5, 5.0))
    known = memory.names
    lost = "trial-0009"
    stored_sweep.write(lost, 3)
    write_object(str(stored_sweep.paths.checkpoint(lost)), b"of other settings")
    write_object(str(stored_sweep.paths.trace(lost, 1)), b"")
    Retention(stored_sweep.paths, RetentionRule()).resume(stored_sweep.record)
    assert memory.names == known


def test_the_finish_leaves_nothing_torn_in_a_store(
    stored_sweep: StoredSweep, memory: MemoryStore
) -> None:
    stored_sweep.report(reported(TRIALS[0], 1, 0.5, 5.0))
    whole = memory.names
    write_object(f"{stored_sweep.paths.evaluation(TRIALS[0], 1)}/tsne.parquet", b"")
    stored_sweep.retention.finish(stored_sweep.record)
    assert memory.names == whole
    write_object(f"{stored_sweep.paths.evaluation(TRIALS[0], 1)}/summary.json", b"{}")
    stored_sweep.retention.finish(stored_sweep.record)
    assert len(memory.names) == len(whole) + 1


def test_the_end_of_a_trial_asks_a_store_nothing_before_its_turn(
    stored_sweep: StoredSweep, memory: MemoryStore
) -> None:
    stored_sweep.report(reported(TRIALS[0], 1, 0.5, 5.0))
    memory.is_away = True
    stored_sweep.tell(ended(TRIALS[0]))
    stored_sweep.tell(reported(TRIALS[1], 1, 0.6, 4.0))
    with pytest.raises(OSError, match="no answer"):
        stored_sweep.remove()
