from __future__ import annotations

from typing import Any

import pytest
from sweep_events import proposed, reported, settings_of

from orchestrator.events import TrialProposed, TrialReported
from orchestrator.record import SweepRecord
from orchestrator.settings import SweepSettings
from orchestrator.stopping_rule import StoppingRule, value_of
from trainables.config import TrialConfig

PARETO = {"kind": "pareto", "grace_epochs": 2, "reduction_factor": 2}


def sweep(**changes: Any) -> tuple[SweepSettings, StoppingRule, SweepRecord]:
    settings = settings_of(**changes)
    return settings, StoppingRule(settings), SweepRecord.of(settings)


def observe(
    rule: StoppingRule, record: SweepRecord, number: int, accuracy: float, d_eff: float, epoch: int = 2
) -> str | None:
    """The rule's answer to a report, of which the record is told afterwards."""
    name = f"trial-{number:04d}"
    if name not in record.trials:
        record.apply(proposed(name, number))
    event = reported(name, epoch, accuracy, d_eff)
    answer = rule.observe(name, event.report, record)
    record.apply(event)
    return answer


def test_a_dominated_trial_is_stopped_and_told_why() -> None:
    _, rule, record = sweep(early_stopping=PARETO)
    assert observe(rule, record, 0, 0.9, 10.0) is None
    answer = observe(rule, record, 1, 0.8, 11.0)
    assert answer == "early stopping at epoch 2: 1 of 2 trials in its rung are better"


def test_a_trade_off_goes_on() -> None:
    _, rule, record = sweep(early_stopping=PARETO)
    assert observe(rule, record, 0, 0.9, 10.0) is None
    assert observe(rule, record, 1, 0.8, 9.0) is None


def test_asha_looks_at_its_metric_alone() -> None:
    _, rule, record = sweep(early_stopping={**PARETO, "kind": "asha"})
    assert observe(rule, record, 0, 0.9, 10.0) is None
    assert observe(rule, record, 1, 0.8, 1.0) is not None
    _, rule, record = sweep(early_stopping={**PARETO, "kind": "asha", "metric": "d_eff"})
    assert observe(rule, record, 0, 0.9, 10.0) is None
    assert observe(rule, record, 1, 0.8, 1.0) is None
    assert observe(rule, record, 2, 1.0, 12.0) is not None


def test_what_is_worse_than_the_reference_comes_after_what_is_not() -> None:
    bounded = {"early_stopping": PARETO, "reference_point": {"knn_accuracy": 0.5}}
    for changes, is_stopped in (({"early_stopping": PARETO}, False), (bounded, True)):
        _, rule, record = sweep(**changes)
        assert observe(rule, record, 0, 0.9, 10.0) is None
        assert (observe(rule, record, 1, 0.4, 1.0) is not None) == is_stopped


def test_none_stops_nobody() -> None:
    _, rule, record = sweep()
    assert observe(rule, record, 0, 0.9, 1.0) is None
    assert all(observe(rule, record, n, 0.1, 99.0) is None for n in range(1, 9))


def test_a_trial_at_its_last_epoch_has_nothing_to_be_stopped_from() -> None:
    _, rule, record = sweep(early_stopping=PARETO)
    last = TrialConfig().epochs
    assert observe(rule, record, 0, 0.9, 1.0, epoch=last) is None
    assert observe(rule, record, 1, 0.1, 99.0, epoch=last) is None


def test_a_report_that_is_not_finite_is_left_out() -> None:
    _, rule, record = sweep(early_stopping=PARETO)
    assert observe(rule, record, 0, float("nan"), 1.0) is None
    assert observe(rule, record, 1, 0.1, 99.0) is None


def test_a_report_that_is_known_changes_nothing() -> None:
    _, rule, record = sweep(early_stopping=PARETO)
    observe(rule, record, 0, 0.9, 1.0)
    for _ in range(5):
        assert rule.observe("trial-0000", reported("trial-0000", 2, 0.9, 1.0).report, record) is None
    assert observe(rule, record, 1, 0.1, 99.0) == (
        "early stopping at epoch 2: 1 of 2 trials in its rung are better"
    )


def test_trials_are_compared_within_their_stratum() -> None:
    _, rule, record = sweep(early_stopping={**PARETO, "stratify_by": "head.kind"})
    for number, kind in enumerate(["none", "monotonic", "none"]):
        config = TrialConfig.model_validate({"head": {"kind": kind}}).model_dump()
        record.apply(TrialProposed(f"trial-{number:04d}", number, {}, config, 0.0))
    assert observe(rule, record, 0, 0.9, 1.0) is None
    assert observe(rule, record, 1, 0.1, 99.0) is None
    assert observe(rule, record, 2, 0.1, 99.0) is not None


def test_the_same_reports_give_the_same_decisions() -> None:
    settings, rule, record = sweep(early_stopping=PARETO)
    events: list[TrialProposed | TrialReported] = []
    answers = []
    for number in range(12):
        name = f"trial-{number:04d}"
        events += [proposed(name, number), reported(name, 2, (number * 7 % 12) / 12, number * 5 % 12)]
        record.apply(events[-2])
        answers.append(rule.observe(name, events[-1].report, record))  # pyright: ignore[reportAttributeAccessIssue]
        record.apply(events[-1])
    again, replayed, found = StoppingRule(settings), SweepRecord.of(settings), []
    for event in events:
        if isinstance(event, TrialReported):
            found.append(again.observe(event.trial, event.report, replayed))
        replayed.apply(event)
    assert found == answers
    assert any(answers)


@pytest.mark.parametrize(("name", "value"), [("epochs", 200), ("head.kind", "monotonic")])
def test_a_setting_is_found_by_its_dotted_name(name: str, value: object) -> None:
    assert value_of(TrialConfig().model_dump(), name) == value
