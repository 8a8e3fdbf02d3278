"""A figure of `trainables.bench`: repetitions, ratio to the port, gap to the floor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from trainables.encoders import build_image_encoder
from trainables.facts import EncoderKind

Run = Callable[[], float]
"""Does something and returns the seconds that it took."""


class Flops(NamedTuple):
    """Floating-point operations for an image of 32x32; a multiplication with its addition is two."""

    forward: int
    both_ways: int


def count_flops(encoder: EncoderKind) -> Flops:
    """What torch counts in an encoder's convolutions."""
    with torch.device("meta"):
        model, images = build_image_encoder(encoder), torch.empty(2, 3, 32, 32)
    with FlopCounterMode(display=False) as counter:
        output = model(images)
        forward = counter.get_total_flops()
        output.sum().backward()
    return Flops(forward // 2, counter.get_total_flops() // 2)


class Spread(NamedTuple):
    """Median, lowest and highest of the repetitions."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        ordered = sorted(values)
        middle = len(ordered) // 2
        return cls((ordered[middle] + ordered[~middle]) / 2, ordered[0], ordered[-1])

    def as_rate(self, num_items: int) -> Spread:
        """Seconds for so many items, as items a second."""
        return Spread(num_items / self.median, num_items / self.high, num_items / self.low)

    def __str__(self) -> str:
        between = "" if self.low == self.high else f" ({_digits(self.low)}-{_digits(self.high)})"
        return _digits(self.median) + between


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


@dataclass(frozen=True)
class Row:
    """One figure. Of units a second more is better, of all others less.

    Attributes:
        figure: what was measured, and how ours was executed.
        unit: of all its values.
        ours: our training.
        port: the plain port; None where it was not measured.
        floor: the best that this machine could do; None where nothing says what that is.
        note: how it was measured.
    """

    figure: str
    unit: str
    ours: Spread
    port: Spread | None
    floor: float | None
    note: str

    @property
    def ratio(self) -> float | None:
        """How many times better ours is than the port."""
        return self._times_better(self.ours.median, self.port.median) if self.port else None

    @property
    def gap(self) -> float | None:
        """How many times better the floor is than ours."""
        return self._times_better(self.floor, self.ours.median) if self.floor else None

    def _times_better(self, value: float, other: float) -> float | None:
        value, other = (value, other) if self.unit.endswith("/s") else (other, value)
        return value / other if other else None

    def cells(self) -> tuple[str, ...]:
        ratio, gap = (f"{value:.2f}x" if value else "-" for value in (self.ratio, self.gap))
        floor = _digits(self.floor) if self.floor else "-"
        return self.figure, self.unit, str(self.ours), str(self.port or "-"), ratio, floor, gap

    def in_words(self) -> tuple[str, str, str]:
        """Name, value and note, for lists that have no more columns."""
        port = f"; port {self.port}, ratio {self.ratio:.1f}x" if self.port else ""
        floor = f"; {self.gap:.1f}x the floor" if self.gap else ""
        return self.figure, f"{_digits(self.ours.median)} {self.unit}", f"{self.note}{port}{floor}"

    def to_dict(self) -> dict[str, Any]:
        port = self.port._asdict() if self.port else None
        return {
            **vars(self), "ours": self.ours._asdict(), "port": port, "ratio": self.ratio, "gap": self.gap
        }  # fmt: skip


def rotate(runs: Mapping[str, Run], repeats: int, warm_up: bool = True) -> dict[str, Spread]:
    """The seconds of each of `runs`, which take turns, `repeats` times; to warm up, once before."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(-1 if warm_up else 0, repeats):
        for name, run in runs.items():
            taken = run()
            if repeat >= 0:
                seconds[name].append(taken)
    return {name: Spread.of(values) for name, values in seconds.items()}
