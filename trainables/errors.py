"""What a trial's user can mend; each message says what is wrong and what to change."""

from __future__ import annotations


class DataError(ValueError):
    """The data that was asked for cannot be had."""


class WeightsError(ValueError):
    """The encoder's initial weights cannot be had or do not fit it."""


class NoGpuError(RuntimeError):
    """Ray gave a process a GPU that torch does not find."""


class GpuMemoryError(RuntimeError):
    """A GPU, or a share of one, has too little memory for what runs there."""
