from __future__ import annotations

import pytest
from sweep_events import record_of

from orchestrator.budget import SweepStopper
from orchestrator.events import Event, TrialEnded
from orchestrator.tune_events import TuneEvents, describe_failure
from trainables.reports import DivergedError

TASK_ERROR = """\
Failure # 1 (occurred at 2026-01-02_03-04-05)
ray::ImplicitFunc.train() (pid=4711, ip=10.0.0.1, actor_id=1, repr=train_trial)
  File "/code/trainables/training.py", line 100, in fit
    raise {raised}
{kind}: {message}
"""


def test_a_raised_error_is_named_with_its_message() -> None:
    text = TASK_ERROR.format(raised="ValueError()", kind="ValueError", message="no such file: 'x'")
    reason, details = describe_failure(text)
    assert reason == "ValueError: no such file: 'x'"
    assert details.startswith("ray::ImplicitFunc.train()")
    assert details.endswith("ValueError: no such file: 'x'")
    assert 'training.py", line 100' in details


def test_a_diverged_training_says_what_to_change() -> None:
    error = DivergedError(7, "main")
    text = TASK_ERROR.format(raised="it", kind="trainables.reports.DivergedError", message=error)
    assert describe_failure(text)[0] == f"DivergedError: {error}"


def test_of_a_chain_of_errors_the_last_is_the_reason() -> None:
    text = TASK_ERROR.format(raised="a", kind="KeyError", message="'x'") + (
        "\nDuring handling of the above exception, another exception occurred:\n\n"
        "torch.cuda.OutOfMemoryError: CUDA out of memory\n"
    )
    assert describe_failure(text)[0] == "OutOfMemoryError: CUDA out of memory"


@pytest.mark.parametrize("text", ["", " \n\n", "Failure # 1 (occurred at 2026-01-02_03-04-05)\n"])
def test_an_error_that_ray_lost_is_said_to_be(text: str) -> None:
    assert describe_failure(text) == ("it ended with an error that Ray did not keep", "")


def test_the_markup_of_a_message_is_kept() -> None:
    text = TASK_ERROR.format(raised="it", kind="RuntimeError", message="[red]shape[/red] [3, 4]")
    assert describe_failure(text)[0] == "RuntimeError: [red]shape[/red] [3, 4]"


def test_a_full_disk_is_the_whole_sentence_and_ends_the_sweep() -> None:
    emitted: list[Event] = []
    stopper = SweepStopper(None, lambda: True)
    record = record_of()
    events = TuneEvents(emitted.append, record, stopper, {})
    kind = "trainables.disk.DiskFullError"
    sentence = "/runs/x cannot be written: its disk is full, 0 B free"
    events._end_failed("trial-0003", TASK_ERROR.format(raised="it", kind=kind, message=sentence))
    (event,) = emitted
    assert isinstance(event, TrialEnded)
    assert event.reason == f"DiskFullError: {sentence}"
    assert stopper.stop_all()
    assert (stopper.status, stopper.reason) == (
        "failed",
        "trial-0003 found the disk full; make room, then resume the sweep",
    )
