from __future__ import annotations

from sweep_events import ended, imported, proposed, reported, settings_of

from orchestrator.ask_and_tell import Told
from orchestrator.events import Event
from orchestrator.proposals import Proposals
from orchestrator.record import SweepRecord
from orchestrator.retention import RetentionRule, wanted_snapshots
from orchestrator.told import imported_trials, known_trials

NONE = {"head.kind": "none", "temperature": 0.1}
CONSTRAINED = settings_of(constraints=["knn_accuracy >= 0.9 * baseline"], first_trials=[NONE])
HISTORY: list[Event] = [
    imported("import-0000", (0.6, 2.0), (0.75, 4.0), **NONE),
    proposed("trial-0000", 0, **NONE),
    reported("trial-0000", 1, 0.8, 9.0),
    ended("trial-0000"),
]
"""0.9 times the baseline's 0.8 is 0.72, which the first imported point breaks and the second holds."""


def test_the_point_that_stands_for_an_imported_trial_is_told() -> None:
    settings = settings_of()
    # 0.75 * (128 - 4) is more than 0.6 * (128 - 2).
    assert [known.told for known in imported_trials(settings, HISTORY)] == [Told([0.75, 4.0], {})]
    assert len(known_trials(settings, HISTORY)) == 1


def test_imports_are_told_alike_before_and_after_the_baseline_is_known() -> None:
    told = [imported_trials(CONSTRAINED, HISTORY[:number]) for number in (1, 2, 4)]
    assert told[0] == told[1] == told[2]
    study = Proposals(CONSTRAINED, known_trials(CONSTRAINED, HISTORY), told[2]).study
    assert [trial.values for trial in study.trials] == [[0.75, 4.0], [0.8, 9.0]]


def test_imported_points_are_judged_once_the_baseline_is_known() -> None:
    before, after = (SweepRecord.of(CONSTRAINED, HISTORY[:number]) for number in (3, 4))
    assert {(p.trial, p.epoch) for p in before.front} >= {("import-0000", 1), ("import-0000", 2)}
    assert before.front.baseline is None
    assert after.front.baseline is not None and after.front.baseline.trial == "trial-0000"
    assert [(p.trial, p.epoch) for p in after.front.sorted()] == [("trial-0000", 1), ("import-0000", 2)]
    for record in (before, after):
        assert wanted_snapshots(record, RetentionRule()) == {("trial-0000", 1)}


def test_an_imported_trial_is_never_the_baseline() -> None:
    record = SweepRecord.of(CONSTRAINED, HISTORY[:1])
    assert record.front.baseline is None
    assert not record.is_baseline("import-0000")
