from __future__ import annotations

import threading

import pytest
from ray.exceptions import WorkerCrashedError
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError
from ray_errors import LOST, PREEMPTED, died, raised

from orchestrator.failures import describe_failure, kind_of
from trainables.disk import DiskFullError
from trainables.errors import DataError, NoGpuError, WeightsError
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


CONNECTION = ConnectionError("a neighbour closed the connection")
GLOO = RuntimeError("[/gloo/transport/tcp/pair.cc:545] Read error: Connection reset by peer")
CUT_OFF = f"[Rank 0 Error Snippet]: RuntimeError: {GLOO}"
KINDS: dict[str, tuple[BaseException | None, str]] = {
    "a killed process": (died(), "lost"),
    "a lost node": (died(LOST), "lost"),
    "a preempted node": (died(PREEMPTED), "preempted"),
    "a crashed worker": (WorkerCrashedError(), "lost"),
    "a bug": (raised(ValueError("x")), "raised"),
    "a training that diverged": (raised(DivergedError(7, "main")), "raised"),
    "a node without the data": (raised(DataError("data.source: gone")), "unreachable"),
    "a node without the weights": (raised(WeightsError("encoder_weights: gone")), "unreachable"),
    "a node whose GPU does not work": (raised(NoGpuError("none")), "unreachable"),
    "storage that is away": (raised(FileNotFoundError(2, "gone")), "unreachable"),
    "a connection": (raised(CONNECTION), "unreachable"),
    "a full disk": (raised(DiskFullError(28, "full")), "raised"),
    "an error that Ray lost": (None, "raised"),
    "a group of which one died": (WorkerGroupError("two", {0: raised(CONNECTION), 1: died()}), "lost"),
    "the same as it comes from another process": (
        raised(WorkerGroupError("[Rank 1] ActorDiedError: it died", {1: died()})),
        "lost",
    ),
    "an error that cannot be sent": (raised(ValueError(threading.Lock())), "raised"),
    "a group that was cut off from one": (raised(WorkerGroupError(CUT_OFF, {0: raised(GLOO)})), "lost"),
    "a group on a preempted node": (
        WorkerGroupError("two", {0: raised(ValueError("x")), 1: died(PREEMPTED)}),
        "preempted",
    ),
    "a group of which one raised": (
        raised(WorkerGroupError("two", {0: raised(ValueError("x"))})),
        "raised",
    ),
    "a group's controller that died": (ControllerError(died()), "lost"),
}


@pytest.mark.parametrize("case", KINDS)
def test_what_would_happen_again_is_told_from_what_came_from_outside(case: str) -> None:
    error, kind = KINDS[case]
    assert kind_of(error) == kind
