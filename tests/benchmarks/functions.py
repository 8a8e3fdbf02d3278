"""Two functions with two objectives, a fidelity and known fronts, from which searches are simulated.

Branin-Currin and Park as modified by Irshad, Karsch and Döpp (2021), "Expected hypervolume improvement
for simultaneous multi-objective and multi-fidelity optimization", written anew from their formulas. All
inputs are in [0, 1], the fidelity s too; both objectives are maximised, hypervolumes are against (0, 0).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Function = Callable[[Array, Array], Array]
"""Of inputs (point, input) and fidelities (point,), to (point, 2)."""
BRANIN_CURRIN_HYPERVOLUME = 0.5235514158034145
PARK_HYPERVOLUME = 0.08551927363087991
"""This and the one before: of the front at s = 1, as `botorch.test_functions` documents them."""


def branin_currin(inputs: Array, fidelities: Array) -> Array:
    """Two inputs. Lower fidelity moves Branin's valleys and makes Currin look better than it is."""
    x, y = inputs.T
    lost = 1 - fidelities
    u, v = 15 * x - 5, 15 * y
    b = 5.1 / (4 * np.pi**2) - 0.01 * lost
    c = 5 / np.pi - 0.1 * lost
    t = 1 / (8 * np.pi) + 0.05 * lost
    branin = (v - b * u**2 + c * u - 6) ** 2 + 10 * (1 - t) * np.cos(u) + 10
    numerator = 2300 * x**3 + 1900 * x**2 + 2092 * x + 60
    denominator = 100 * x**3 + 500 * x**2 + 4 * x + 20
    with np.errstate(divide="ignore"):  # exp(-1/0) is 0, its limit
        damping = 1 - 0.1 * lost * np.exp(-1 / (2 * y))
    currin = damping * numerator / denominator
    return np.stack([(21 - branin) / 22, (14 - currin) / 15], axis=1)


def park(inputs: Array, fidelities: Array) -> Array:
    """Four inputs; first bent, so that the front lies inside the cube. Lower fidelity scales both."""
    a = 1 - 2 * (inputs[:, 0] - 0.6) ** 2
    b = inputs[:, 1]
    c = 1 - 3 * (inputs[:, 2] - 0.5) ** 2
    d = 1 - (inputs[:, 3] - 0.8) ** 2
    lost = 1 - fidelities
    scale, shift = 1 - 0.1 * lost, 0.1 * lost
    root = (a + 0.001 * lost) / 2 * np.sqrt(1 + (b + c**2) * d / (a**2 + 1e-4))
    first = scale * (root + (a + 3 * d) * np.exp(1 + np.sin(c)) - shift) / 22 - 0.8
    second = 5 - 2 / 3 * np.exp(a + b) + d * np.sin(c) * scale - c + shift
    return np.stack([first, scale * second / 4 - 0.7], axis=1)
