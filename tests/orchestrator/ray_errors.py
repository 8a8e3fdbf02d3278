"""Errors as Ray makes them."""

from __future__ import annotations

from typing import Any

from ray.core.generated import common_pb2
from ray.exceptions import ActorDiedError, RayTaskError

_PROTOCOL: Any = common_pb2  # its classes are made when it is imported
LOST = _PROTOCOL.NodeDeathInfo.UNEXPECTED_TERMINATION
PREEMPTED = _PROTOCOL.NodeDeathInfo.AUTOSCALER_DRAIN_PREEMPTED


def died(reason: int | None = None) -> ActorDiedError:
    """What Ray raises for an actor that died, with its node where there is a reason for that."""
    context = _PROTOCOL.ActorDiedErrorContext(error_message="it died", actor_id=b"\1" * 16)
    if reason is not None:
        context.node_death_info.CopyFrom(_PROTOCOL.NodeDeathInfo(reason=reason))
    return ActorDiedError(context)


def raised(error: Exception) -> RayTaskError:
    """What Ray makes of an error that a process raised; of one that cannot be sent, its text."""
    return RayTaskError("train", f"Traceback\n{type(error).__name__}: {error}", error)
