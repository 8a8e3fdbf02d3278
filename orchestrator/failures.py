"""What made an attempt at a trial fail, in one word and in one sentence: from the error that Ray keeps
of it, and from its text. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from ray.exceptions import ActorDiedError, RayError, RayTaskError
from ray.train.v2.api.exceptions import ControllerError, PreemptionError, WorkerGroupError

from trainables.disk import DiskFullError
from trainables.errors import DataError, NoGpuError, WeightsError

FailureKind = Literal["preempted", "lost", "unreachable", "raised"]
"""preempted: its node was taken away, as had been announced. lost: its process or its node died.
unreachable: a file, a connection, or what else there was at the start, was not there. raised: by the
training itself, as another attempt would again.
"""
_FAILURE_HEADER = re.compile(r"^Failure # \d+ \(occurred at [^)]*\)\n", re.MULTILINE)
_TERMINAL_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_CUT_OFF = re.compile(
    r"gloo/transport|Connection (?:closed|reset) by peer|NCCL|Dist(?:Backend|Network)Error"
)
"""What torch's backends say then; gloo has no error of its own."""
_UNAVAILABLE = re.compile(r"The actor \w+ is unavailable: (.*?\.) The task may or may not")
_RAISED = re.compile(r"^([A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|Warning)): (.+)$")


def kind_of(error: BaseException | None) -> FailureKind:
    """Of an error that ended a trial's attempt.

    A group's workers fail together, each in its own way, once one of them does: so the kind that
    comes first counts.

    Args:
        error: as Ray raises it; None where Ray lost it.
    """
    causes = list(_causes(error))
    if any(isinstance(e, PreemptionError) or getattr(e, "preempted", False) for e in causes):
        return "preempted"
    if any(_is_of_ray(e) or _lost_a_neighbour(e) for e in causes):
        return "lost"
    if any(_is_elsewhere(e) for e in causes):
        return "unreachable"
    return "raised"


def _is_elsewhere(error: BaseException) -> bool:
    """Whether another attempt, or another node, may have what was not there: data, weights and a GPU
    were there when the sweep started.
    """
    if isinstance(error, OSError):
        return not isinstance(error, DiskFullError)
    return isinstance(error, (DataError, WeightsError, NoGpuError))


def _is_of_ray(error: BaseException) -> bool:
    """Whether Ray raised it, for a process that ended from outside, and not the process itself.

    An error that cannot be sent, as that of a group which lost a worker cannot, comes as its text.
    """
    if type(error) is RayError:
        return ActorDiedError.__name__ in str(error)
    return isinstance(error, RayError) and not isinstance(error, RayTaskError)


def _lost_a_neighbour(error: BaseException) -> bool:
    """Whether a worker of a group was cut off from another one, of whose death Ray may tell later."""
    is_of_group = isinstance(error, WorkerGroupError) or (
        type(error) is RayError and WorkerGroupError.__name__ in str(error)
    )
    return is_of_group and bool(_CUT_OFF.search(str(error)))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and all that it wraps."""
    if error is None:
        return
    yield error
    match error:
        case RayTaskError():
            yield from _causes(error.cause)
        case WorkerGroupError():
            for failure in error.worker_failures.values():
                yield from _causes(failure)
        case ControllerError():
            yield from _causes(error.controller_failure)
        case _:
            yield from _causes(error.__cause__)


def describe_failure(text: str) -> tuple[str, str]:
    """One sentence and the traceback, from the text that Tune keeps of a trial's error."""
    details = _TERMINAL_COLOURS.sub("", _FAILURE_HEADER.sub("", text)).strip()
    lines = [line.strip() for line in details.splitlines() if line.strip()]
    if not lines:
        return "it ended with an error that Ray did not keep", ""
    if "ActorDiedError" in lines[0] or lines[0].startswith("The actor died"):
        return f"its process died: {_death(lines)}", details
    if unavailable := _UNAVAILABLE.match(lines[0]):
        return f"its process cannot be reached: {unavailable[1]}", details
    raised = [match for line in lines if (match := _RAISED.match(line))]
    if not raised:
        return lines[0], details
    kind, message = raised[-1].groups()
    return f"{kind.rsplit('.', 1)[-1]}: {message}", details


def _death(lines: list[str]) -> str:
    """The sentence of an actor's obituary that says how its process ended."""
    told = ("exit type", "node has died", "node was", "node is")
    line = next((line for line in lines if any(words in line.lower() for words in told)), lines[0])
    return line.split(" Some common causes")[0]
