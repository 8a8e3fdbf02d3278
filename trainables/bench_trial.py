"""A whole trial, summed up from the rows that `trainables.bench` has measured; measures nothing."""

from __future__ import annotations

import math

from trainables.bench_rows import Row, Spread
from trainables.config import TrialConfig

_GOAL = "goal on an H200-class GPU with 45,000 images: 360 s, and a ratio of 5"


def trial_s(
    config: TrialConfig, epoch_s: float, validation_s: float, compilation_s: float = 0.0
) -> float:
    """Seconds of a trial that never stops early, its warm-up's epochs taken as long as any other."""
    num_epochs = config.warmup.epochs + config.epochs
    return num_epochs * epoch_s + _num_validations(config) * validation_s + compilation_s


def trial_row(
    label: str,
    config: TrialConfig,
    num_images: int,
    epoch: Row,
    validation: Row,
    compilation: Row | None,
) -> Row:
    """The row of a whole trial: ours, the port's and the floor are each the sum of its own parts.

    The median is the sum of the medians, lowest and highest those of the lowest and the highest.

    Args:
        label: how ours is executed.
        config: says how many epochs and validations there are.
        num_images: of an epoch.
        epoch: of the same label, in seconds.
        validation: of the same precision, in seconds.
        compilation: of the same label, in seconds; None where nothing is compiled.
    """

    def total(epochs: Spread, validations: Spread, compilation_s: float = 0.0) -> Spread:
        parts = zip(epochs, validations, strict=True)
        return Spread(*(trial_s(config, *seconds, compilation_s) for seconds in parts))

    compilation_s = compilation.ours.median if compilation else 0.0
    port = total(epoch.port, validation.port) if epoch.port and validation.port else None
    floor = None
    if epoch.floor and validation.floor:
        floor = trial_s(config, epoch.floor, validation.floor)
    note = (
        f"a sum of the figures above, not measured whole: {config.warmup.epochs} warm-up and "
        f"{config.epochs} epochs of {num_images:,} images, all as long as a training epoch, an upper "
        f"bound of those that train the head alone; {_num_validations(config)} validations, which are "
        "never compiled; where compiled, the compilation once; no early stopping, no snapshots; "
        f"{_GOAL}"
    )
    ours = total(epoch.ours, validation.ours, compilation_s)
    return Row(f"trial, {label}", "s", ours, port, floor, note)


def _num_validations(config: TrialConfig) -> int:
    """One every so many epochs, and one after the last."""
    return math.ceil(config.epochs / config.validate_every)
