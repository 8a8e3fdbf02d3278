"""What one decision of early stopping takes, as its rung grows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from orchestrator.successive_halving import RungPoint, SuccessiveHalving, place
from tests.benchmarks.table import Row

SIZES = (100, 1_000, 10_000)
_NUM_REPEATS = 7
Points = NDArray[np.float64]


def cloud(num: int, generator: np.random.Generator) -> Points:
    """Independent objectives: as many ranks as a front of such a cloud leaves."""
    return generator.random((num, 2))


def front(num: int, generator: np.random.Generator) -> Points:
    """One front that holds all points, but for the newcomer."""
    x = generator.random(num)
    return np.stack([x, 1 - x], axis=1)


def chain(num: int, generator: np.random.Generator) -> Points:
    """Objectives that agree: as many ranks as points."""
    x = generator.random(num)
    return np.stack([x, x], axis=1)


def grid(num: int, generator: np.random.Generator) -> Points:
    """As accuracy and d_eff are: multiples of 1/300, and whole numbers to 128, so ties are common."""
    return np.stack(
        [generator.integers(0, 301, num) / 300, generator.integers(1, 129, num).astype(float)], axis=1
    )


SHAPES: dict[str, Callable[[int, np.random.Generator], Points]] = {
    "cloud": cloud,
    "front": front,
    "chain": chain,
    "grid": grid,
}
"""How the points of a rung lie."""


def decision_s(points: Points) -> tuple[float, float]:
    """CPU seconds of `place` alone, and of a whole report, the newcomer worse than most."""
    points[-1] = np.quantile(points, 0.6, axis=0)
    rung = [RungPoint(tuple(point), {}) for point in points.tolist()]
    rule = SuccessiveHalving(1, 3.0, max_rung_size=len(rung))
    for number in range(0, len(rung), len(rung) // 10):  # through the rule itself, then the rest at once
        rule.observe(f"early-{number}", None, 1, rung[number])
    rule._rungs[None, 1].extend(rung)
    names = iter(range(_NUM_REPEATS))
    return (
        _fastest(lambda: place(points)),
        _fastest(lambda: rule.observe(f"late-{next(names)}", None, 1, rung[-1])),
    )


def _fastest(function: Callable[[], object]) -> float:
    """Of the process, which others beside it do not lengthen; the least of a few."""
    times = []
    for _ in range(_NUM_REPEATS):
        started = time.process_time()
        function()
        times.append(time.process_time() - started)
    return min(times)


def run() -> list[Row]:
    """Each shape of rung at each size; growth from a size to the next, beside that of n log n."""
    decision_s(cloud(SIZES[-1], np.random.default_rng(1)))
    rows = []
    for name, shape in SHAPES.items():
        before: tuple[int, float] | None = None
        for size in SIZES:
            place_s, observe_s = decision_s(shape(size, np.random.default_rng(0)))
            note = f"{place_s * 1e3:.2f} ms of it ranking"
            if before is not None:
                growth = size * math.log(size) / (before[0] * math.log(before[0]))
                note += f"; {observe_s / before[1]:.1f}x the one before, n log n would be {growth:.1f}x"
            rows.append(Row(f"{name}, rung of {size:,}", f"{observe_s * 1e3:.2f} ms", note))
            before = size, observe_s
    return rows
