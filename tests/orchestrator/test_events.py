from __future__ import annotations

from typing import Any, get_args

import pytest

from orchestrator.events import (
    Event,
    PointEvaluated,
    RunOpened,
    SearchEnded,
    SweepEnded,
    SweepResumed,
    SweepStarted,
    TrialEnded,
    TrialImported,
    TrialProposed,
    TrialReported,
    TrialRetried,
    TrialStarted,
    TrialWarned,
    from_dict,
    to_dict,
)

EXAMPLES_OF_EACH = [
    SweepStarted("s", {"name": "s", "search": {"trials": 3}}, {"python": "3.11"}, 1.5, "id", 1),
    TrialImported(
        "import-0000",
        "earlier/trial-0003",
        {"head.kind": "mlp"},
        {"epochs": 3},
        [{"epoch": 5, "metrics": {"d_eff": 3.0}, "training": {}}],
        1.625,
    ),
    SweepResumed({"name": "s", "search": {"trials": 4}}, {"python": "3.12"}, 1.75),
    RunOpened("trial-0000", "0af3", 2.0),
    TrialProposed("trial-0000", 0, {"head.kind": "mlp"}, {"epochs": 3}, 2.5, {"generation": 1}),
    TrialProposed("trial-0000-seed-43", 0, {}, {"seed": 43}, 3.0, {}, "trial-0000"),
    TrialStarted("trial-0000", 3.5),
    TrialReported("trial-0000", {"epoch": 5, "metrics": {"d_eff": 3.0}, "training": {}}, 4.5),
    TrialWarned("trial-0000", "its checkpoint is damaged", 5.0),
    TrialRetried("trial-0000", "its process died", 5.25, "SIGKILL", is_counted=False),
    TrialEnded("trial-0000", "failed", "é [red]", 5.5, "Traceback\n  line"),
    SearchEnded("all 3 trials ended", 5.75),
    PointEvaluated("trial-0000", 5, {"test_knn_accuracy": 0.75}, 6.0),
    SweepEnded("interrupted", "interrupted by SIGINT", 6.5),
]


def test_there_is_an_example_of_each_event() -> None:
    assert {type(event) for event in EXAMPLES_OF_EACH} == set(get_args(Event))


@pytest.mark.parametrize("event", EXAMPLES_OF_EACH, ids=lambda event: type(event).__name__)
def test_from_dict_inverts_to_dict(event: Event) -> None:
    data = to_dict(event)
    assert data["event"] == type(event).__name__
    assert from_dict(data) == event
    assert "event" in data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "unknown event None"),
        ({"event": "TrialVanished", "trial": "t"}, "unknown event 'TrialVanished'"),
        ({"event": "TrialStarted", "trial": "t"}, "TrialStarted: .*'time'"),
        ({"event": "TrialStarted", "trial": "t", "time": 1, "more": 2}, "TrialStarted: .*'more'"),
    ],
)
def test_from_dict_refuses_what_is_no_event(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_dict(data)


@pytest.mark.parametrize("event", EXAMPLES_OF_EACH, ids=lambda event: type(event).__name__)
def test_events_cannot_be_changed(event: Event) -> None:
    with pytest.raises(AttributeError):
        event.time = 0.0  # pyright: ignore[reportAttributeAccessIssue]
