from __future__ import annotations

import io
import math
from collections.abc import Sequence

import pytest
from rich.console import Console
from sweep_events import TRIALS, confirming, ended, imported, proposed, record_of, reported, started

from orchestrator.events import (
    Event,
    PointEvaluated,
    SearchEnded,
    SweepEnded,
    SweepResumed,
    SweepStarted,
    TrialEnded,
    TrialRetried,
    TrialWarned,
)
from orchestrator.record import SweepRecord
from orchestrator.settings import ConfirmSettings
from orchestrator.terminal import (
    Progress,
    confirmed_as_table,
    format_duration,
    front_as_table,
    progress_line,
    time_left,
    with_deviation,
)

START = SweepStarted("s", {}, {}, time=100.0)


def console(terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), width=200, force_terminal=terminal, color_system=None)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def show(events: Sequence[Event], terminal: bool = False) -> str:
    """What is printed while these events happen to a sweep of three trials."""
    target = console(terminal)
    progress = Progress(target, "s", 3, None, clock=lambda: 100.0, confirm=ConfirmSettings(seeds=2))
    record = record_of()
    for event in events:
        record.apply(event)
        progress(event, record)
    return text_of(target)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"),
        (0, "0 s"),
        (44.6, "45 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599, "59 min 59 s"),
        (3599.7, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (360_000, "100 h 00 min"),
    ],
)
def test_format_duration(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("events", "time_budget_s", "left"),
    [
        ([], None, None),
        ([START], None, None),
        ([START], 60.0, 40.0),
        ([START], 5.0, 0.0),
        ([START, started(TRIALS[0], 110.0)], None, None),
        ([START, started(TRIALS[0], 110.0), ended(TRIALS[0])], None, 20.0),
        ([START, started(TRIALS[0], 110.0), ended(TRIALS[0], "failed")], None, 20.0),
        ([START, started(TRIALS[0], 110.0), ended(TRIALS[0])], 25.0, 5.0),
        ([START, started(TRIALS[0], 110.0), ended(TRIALS[0])], 600.0, 20.0),
        ([started(TRIALS[0], 110.0), *(ended(trial) for trial in TRIALS)], None, 0.0),
    ],
)
def test_time_left_is_the_rate_so_far_or_the_budget(
    events: list[Event], time_budget_s: float | None, left: float | None
) -> None:
    record = record_of(*events)
    assert time_left(record, num_trials=3, time_budget_s=time_budget_s, now=120.0) == left


def test_the_progress_line_counts_and_times() -> None:
    starts = [started(TRIALS[0], 110.0), started(TRIALS[1], 110.0)]
    record = record_of(START, *starts, ended(TRIALS[0]), ended(TRIALS[1], "failed"))
    line = progress_line(record, "digits", 4, None, now=290.0)
    assert line == "digits: 1/4 trials done, 1 running, 1 failed, 3 min 10 s gone, about 3 min 00 s left"


def test_the_progress_line_admits_what_it_does_not_know() -> None:
    line = progress_line(record_of(START), "digits", 3, None, now=103.0)
    assert line == "digits: 0/3 trials done, 3 running, 0 failed, 3 s gone, time left unknown"


@pytest.fixture
def record() -> SweepRecord:
    return record_of(
        proposed(TRIALS[0], 0, **{"head.kind": "none", "temperature": 0.123456}),
        proposed(TRIALS[1], 1, **{"head.kind": "mlp", "head.depth": 2, "temperature": 0.1}),
        reported(TRIALS[0], 5, accuracy=0.98765, d_eff=9.0),
        reported(TRIALS[1], 10, accuracy=0.5, d_eff=3.0),
    )


def test_the_front_is_shown_with_its_configurations(record: SweepRecord) -> None:
    target = console()
    target.print(front_as_table(record, record.front.sorted()))
    rows = [line.split() for line in text_of(target).splitlines()]
    assert rows == [
        ["knn_accuracy", "d_eff", "trial", "epoch", "configuration"],
        ["0.9877", "9", "trial-0000", "5", "kind", "none,", "temperature", "0.1235"],
        ["0.5", "3", "trial-0001", "10", "kind", "mlp,", "depth", "2,", "temperature", "0.1"],
    ]


def test_test_values_stand_in_brackets_beside_the_front(record: SweepRecord) -> None:
    metrics = {"test_knn_accuracy": 0.97, "test_d_eff": 8.0}
    record.apply(PointEvaluated(TRIALS[0], 5, metrics, time=0.0))
    target = console()
    target.print(front_as_table(record, record.front.sorted()))
    header, first, second = text_of(target).splitlines()
    assert header.split("trial")[0].split() == ["knn_accuracy", "(test)", "d_eff", "(test)"]
    assert first.split()[:4] == ["0.9877", "(0.97)", "9", "(8)"]
    assert second.split()[:3] == ["0.5", "3", "trial-0001"]


def test_a_configuration_is_printed_literally() -> None:
    record = record_of(
        proposed(TRIALS[0], 0, **{"some.kind": "[red]mlp[/red] :smile:"}),
        reported(TRIALS[0], 5, accuracy=0.5, d_eff=9.0),
    )
    target = console()
    target.print(front_as_table(record, record.front.points))
    assert "kind [red]mlp[/red] :smile:" in text_of(target)


def test_an_imported_point_says_where_it_is_from() -> None:
    record = record_of(imported("import-0000", (0.9, 3.0), temperature=0.25))
    target = console()
    target.print(front_as_table(record, record.front.points))
    assert "import-0000" in text_of(target)
    assert "from earlier/import-0000: temperature 0.25" in text_of(target)


def test_the_front_fits_on_a_narrow_terminal(record: SweepRecord) -> None:
    target = Console(file=io.StringIO(), width=80, force_terminal=False)
    target.print(front_as_table(record, record.front.sorted()))
    assert all(len(line) <= 80 for line in text_of(target).splitlines())
    assert "0.9877" in text_of(target)


def test_elsewhere_each_ended_trial_has_a_line() -> None:
    events = [
        started(TRIALS[0]),
        reported(TRIALS[0], 1, accuracy=0.75, d_eff=6.0),
        ended(TRIALS[0]),
        ended(TRIALS[1], "stopped"),
    ]
    assert show(events).splitlines() == [
        "[1/3] trial-0000 completed: monotonic, knn_accuracy 0.75, d_eff 6",
        "[2/3] trial-0001 stopped: monotonic, -",
    ]


def test_on_a_terminal_only_failures_leave_a_line() -> None:
    events = [ended(TRIALS[0]), ended(TRIALS[1], "failed", "out of memory")]
    assert show(events, terminal=True).splitlines() == ["trial-0001 failed: out of memory"]


EVALUATED = PointEvaluated(TRIALS[0], 5, {"test_knn_accuracy": 0.75, "test_recall_at_1": 0.5}, 0.0)
FAILED_EVALUATION = PointEvaluated(TRIALS[1], 3, {}, 0.0, "no [red]weights[/red]")


def test_each_evaluated_point_has_a_line() -> None:
    assert show([EVALUATED, FAILED_EVALUATION]).splitlines() == [
        "[1 evaluated] trial-0000 epoch 5: test_knn_accuracy 0.75",
        "[2 evaluated] trial-0001 epoch 3: failed: no [red]weights[/red]",
    ]


def test_on_a_terminal_only_failed_evaluations_leave_a_line() -> None:
    lines = show([EVALUATED, FAILED_EVALUATION], terminal=True).splitlines()
    assert lines == ["[2 evaluated] trial-0001 epoch 3: failed: no [red]weights[/red]"]


def test_progress_of_the_evaluation_is_told_in_place_of_the_time_left() -> None:
    record = record_of(START, started(TRIALS[0]), ended(TRIALS[0]))
    record.apply(SearchEnded("all 1 trials ended", time=104.0))
    record.apply(EVALUATED)
    line = progress_line(record, "digits", 1, None, now=105.0)
    assert line.endswith("5 s gone, 1 points evaluated on the test set")


@pytest.mark.parametrize("terminal", [False, True])
def test_a_reason_is_printed_literally(terminal: bool) -> None:
    reason = "[red]RuntimeError[/red]: [/nothing] [bold] tensor[3, 4]"
    text = show([ended(TRIALS[0], "failed", reason)], terminal)
    assert text == f"trial-0000 failed: {reason}\n"


def test_a_terminal_shows_progress_and_front_until_the_sweep_ends() -> None:
    target = console(terminal=True)
    progress = Progress(target, "digits", 3, None, clock=lambda: 105.0)
    record = record_of(START, reported(TRIALS[0], 1, accuracy=0.75, d_eff=6.0))
    progress.start()
    progress(started(TRIALS[0]), record)
    progress(SweepEnded("completed", "", 106.0), record)
    assert "digits: 0/3 trials done" in text_of(target)
    assert "trial-0000" in text_of(target)


def test_a_terminal_says_that_ray_is_starting() -> None:
    target = console(terminal=True)
    progress = Progress(target, "digits", 3, None)
    progress.start()
    progress.stop()
    assert "digits: starting Ray ..." in text_of(target)


def test_elsewhere_nothing_is_drawn() -> None:
    target = console()
    progress = Progress(target, "digits", 3, None)
    progress.start()
    progress(SweepEnded("completed", "", 106.0), record_of(START))
    assert text_of(target) == ""


def test_the_time_between_two_drivers_is_neither_gone_nor_counted() -> None:
    record = record_of(
        SweepStarted("digits", {}, {}, 100.0),
        started(TRIALS[0], time=110.0),
        TrialEnded(TRIALS[0], "completed", "", 130.0),
        SweepResumed({}, {}, 1000.0),
    )
    assert time_left(record, num_trials=3, time_budget_s=None, now=1010.0) == 2 * 30.0
    assert time_left(record, num_trials=3, time_budget_s=45.0, now=1010.0) == 5.0
    assert "40 s gone" in progress_line(record, "digits", 3, None, now=1010.0)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_warning_of_a_trial_is_shown(terminal: bool) -> None:
    warning = TrialWarned("trial-0001", "its checkpoint is [damaged]", 101.0)
    assert "trial-0001: its checkpoint is [damaged]\n" in show([START, warning], terminal)


@pytest.mark.parametrize("terminal", [True, False])
def test_an_attempt_that_another_one_follows_is_shown(terminal: bool) -> None:
    name = "trial-0001"
    lost = TrialRetried(name, "its process [died]", 101.0)
    preempted = TrialRetried(name, "its node was preempted", 102.0, is_counted=False)
    text = show([START, lost, preempted], terminal)
    follows = "it goes on from its checkpoint"
    assert f"{name}: its process [died]; {follows} (retry 1)\n" in text
    assert f"{name}: its node was preempted; {follows} (not counted as a retry)\n" in text


def confirmed_by(*accuracies: float) -> list[Event]:
    """A sweep of one point on the front, and what further seeds make of it from the 110th second on."""
    events: list[Event] = [
        SweepStarted("s", {}, {}, time=100.0),
        reported(TRIALS[0], 5, 0.9, 3.0),
        ended(TRIALS[0]),
        SearchEnded("all 3 trials ended", time=110.0),
    ]
    for seed, accuracy in enumerate(accuracies, start=43):
        name = f"{TRIALS[0]}-seed-{seed}"
        end = TrialEnded(name, "completed", "", time=130.0)
        events += [confirming(TRIALS[0], seed), reported(name, 5, accuracy, 4.0), end]
    return events


@pytest.mark.parametrize(
    ("accuracies", "text"),
    [
        ((), "confirming its front: 0/2 trials done, 1 running, 0 failed, 40 s gone, time left unknown"),
        (
            (0.8,),
            "confirming its front: 1/2 trials done, 1 running, 0 failed, 40 s gone, about 30 s left",
        ),
    ],
)
def test_the_progress_line_tells_of_the_confirming_trials(
    accuracies: tuple[float, ...], text: str
) -> None:
    name = f"{TRIALS[0]}-seed-{43 + len(accuracies)}"
    running = [confirming(TRIALS[0], 43 + len(accuracies)), started(name, time=130.0)]
    record = record_of(*confirmed_by(*accuracies), *running)
    line = progress_line(record, "s", 3, None, 140.0, ConfirmSettings(seeds=2))
    assert line == f"s: 1/3 trials done, {text}"


def test_once_all_is_confirmed_the_evaluation_is_told_of() -> None:
    record = record_of(*confirmed_by(0.8, 0.7))
    record.apply(EVALUATED)
    line = progress_line(record, "s", 3, None, 140.0, ConfirmSettings(seeds=2))
    assert line.endswith("1 points evaluated on the test set")


def test_elsewhere_each_confirming_trial_has_a_line() -> None:
    assert show(confirmed_by(0.8, 0.7)).splitlines() == [
        "[1/3] trial-0000 completed: monotonic, knn_accuracy 0.9, d_eff 3",
        "[1/2 confirming] trial-0000-seed-43 completed: monotonic, knn_accuracy 0.8, d_eff 4",
        "[2/2 confirming] trial-0000-seed-44 completed: monotonic, knn_accuracy 0.7, d_eff 4",
    ]


def test_the_confirmed_front_has_means_deviations_and_probabilities() -> None:
    target = console()
    table = confirmed_as_table(record_of(*confirmed_by(0.8, 0.7)))
    assert table is not None
    target.print(table)
    header, row = text_of(target).splitlines()
    assert header.split() == [
        *("knn_accuracy", "mean", "±", "std", "d_eff", "mean", "±", "std"),
        *("seeds", "front", "trial", "epoch"),
    ]
    assert row.split() == [
        *("0.9", "0.75", "±", "0.07", "3", "4", "±", "0", "2", "100", "%", "trial-0000", "5"),
    ]
    assert len(header) <= 80


def test_what_is_not_confirmed_has_no_such_table() -> None:
    assert confirmed_as_table(record_of(*confirmed_by())) is None


@pytest.mark.parametrize(
    ("mean", "deviation", "text"),
    [
        (0.98231, 0.00412, "0.982 ± 0.004"),
        (0.98231, 0.00122, "0.9823 ± 0.0012"),
        (8.6, 0.5477, "8.6 ± 0.5"),
        (123.4, 31.2, "123 ± 31"),
        (123.4, 1.26, "123.4 ± 1.3"),
        (5.0, 0.0, "5 ± 0"),
        (0.98231, math.nan, "0.9823"),
    ],
)
def test_a_mean_has_the_digits_of_its_deviation(mean: float, deviation: float, text: str) -> None:
    assert with_deviation(mean, deviation) == text
