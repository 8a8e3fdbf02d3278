"""What an ask gives and a tell takes, as values that cross between the driver and the process of its
study. Imports no Optuna.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from orchestrator.search_space import Value


class Proposal(NamedTuple):
    """A configuration to try.

    Attributes:
        number: of the trial, from 0.
        values: of the parameters that exist in it.
        sampler_state: what the sampler wrote down about it; `Known` wants it back.
    """

    number: int
    values: dict[str, Value]
    sampler_state: dict[str, Any]


class Told(NamedTuple):
    """What the study is told of a trial that gave something.

    Attributes:
        values: of the objectives, in their order and own directions.
        excesses: by how much it breaks each constraint, 0 or less where it holds it; none where there
            are no constraints.
    """

    values: Sequence[float]
    excesses: Mapping[str, float] = {}


class Known(NamedTuple):
    """A trial of before, for `Proposals`.

    Attributes:
        values: as proposed, with what the sampler wrote down.
        told: what the study was told of it; None where it failed; "running" where it has not ended.
    """

    values: Mapping[str, Value]
    sampler_state: Mapping[str, Any]
    told: Told | Literal["running"] | None
