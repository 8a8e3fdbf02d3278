"""Ways to search against each other, by simulated searches with the same seeds."""

from __future__ import annotations

import functools
import multiprocessing
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import numpy as np
from scipy.stats import wilcoxon

from orchestrator.pareto import Values
from tests.benchmarks.problems import PROBLEMS
from tests.benchmarks.simulator import Arm, Search, simulate
from tests.benchmarks.table import Row

NUM_SEEDS = 20
NUM_TRAININGS = 32
"""Of the budget: so many trainings to the end, as many trials as digits.yaml has."""
SHARES = (1 / 8, 1 / 4, 1 / 2, 1.0)
"""Of the budget, at which arms are compared."""
DEFAULT = "tpe, pareto"
_PARETO = {"kind": "pareto"}
_ASHA = {"kind": "asha"}
ARMS = (
    Arm("random", "random"),
    Arm("tpe", "tpe"),
    Arm("random, asha", "random", _ASHA),
    Arm("tpe, asha", "tpe", _ASHA),
    Arm("random, pareto", "random", _PARETO),
    Arm(DEFAULT, "tpe", _PARETO),
)
_NUM_RESAMPLES = 2000


class Result(NamedTuple):
    """An arm's searches.

    Attributes:
        curves: (seed, epoch spent), hypervolume of all points as a share of the best.
        last_curves: the same of last epochs alone.
        num_trials: mean over seeds.
    """

    curves: Values
    last_curves: Values
    num_trials: float


class Reach(NamedTuple):
    """The share of the budget at which an arm's mean has what random ends with; 1 where it never has.

    Attributes:
        low: this and `high` hold 95 % of resamples of the seeds.
    """

    share: float
    low: float
    high: float


def search(problem: str, arm: Arm, budget: int, seed: int) -> Search:
    """One search, in a process of its own."""
    return simulate(PROBLEMS[problem](), arm, seed, budget)


def results(
    problem: str, arms: Sequence[Arm], num_seeds: int, num_trainings: int, num_processes: int = 2
) -> dict[str, Result]:
    """All searches of a problem, by arm."""
    budget = num_trainings * PROBLEMS[problem]().num_epochs
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"  # read by the processes below
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_processes, mp_context=context) as pool:
        pending = {
            arm.name: pool.map(functools.partial(search, problem, arm, budget), range(num_seeds))
            for arm in arms
        }
        return {name: summed_up(list(searches)) for name, searches in pending.items()}


def summed_up(searches: Sequence[Search]) -> Result:
    return Result(
        np.stack([found.hypervolumes for found in searches]),
        np.stack([found.last_hypervolumes for found in searches]),
        float(np.mean([len(found.num_epochs) for found in searches])),
    )


def at_shares(curves: Values) -> Values:
    """(seed, share): the values when these shares of the budget are spent."""
    budget = curves.shape[1]
    return curves[:, [round(share * budget) - 1 for share in SHARES]]


def reach(curves: Values, random_curves: Values, seed: int = 0) -> Reach:
    """When the arm's mean has what the mean of `random_curves` ends with, over the same seeds."""
    generator = np.random.default_rng(seed)
    rows = generator.integers(len(curves), size=(_NUM_RESAMPLES, len(curves)))
    shares = [_reach(curves[picked], random_curves[picked]) for picked in rows]
    low, high = np.quantile(shares, [0.025, 0.975])
    return Reach(_reach(curves, random_curves), float(low), float(high))


def _reach(curves: Values, random_curves: Values) -> float:
    mean, goal = curves.mean(axis=0), random_curves[:, -1].mean()
    there = np.flatnonzero(mean >= goal * (1 - 1e-12))
    return float(there[0] + 1) / len(mean) if len(there) else 1.0


def p_value(ours: Values, theirs: Values) -> float:
    """Wilcoxon's signed-rank test over seeds, two-sided; 1 where no seed differs."""
    differences = ours - theirs
    if not differences.any():
        return 1.0
    _, p = wilcoxon(differences)
    return float(p)  # pyright: ignore[reportArgumentType]


def rows_of(found: Mapping[str, Result], last_epochs: bool = False) -> list[Row]:
    """Means with standard errors at each share, when each arm has what random ends with, and tests."""
    curves = {n: r.last_curves if last_epochs else r.curves for n, r in found.items()}
    rows = []
    for name, values in curves.items():
        at = at_shares(values)
        errors = at.std(axis=0, ddof=1) / np.sqrt(len(at))
        cells = [f"{m:.4f} ±{e:.4f}" for m, e in zip(at.mean(axis=0), errors, strict=True)]
        share, low, high = reach(values, curves["random"])
        when = f"random's end at {share:.0%} [{low:.0%}, {high:.0%}]"
        rows.append(Row(name, "  ".join(cells), f"{when}; {found[name].num_trials:.0f} trials"))
    for other in ("random", "tpe", "tpe, asha"):
        ours, theirs = at_shares(curves[DEFAULT]), at_shares(curves[other])
        cells = [
            f"{np.mean(a - b):+.4f} p={p_value(a, b):.2g}" for a, b in zip(ours.T, theirs.T, strict=True)
        ]
        rows.append(Row(f"{DEFAULT} against {other}", "  ".join(cells), "mean difference, Wilcoxon"))
    return rows


def run(problem: str) -> list[Row]:
    """All arms on one problem, by all points, and by last epochs alone."""
    found = results(problem, ARMS, NUM_SEEDS, NUM_TRAININGS)
    shares = ", ".join(f"{share:.3g}" for share in SHARES)
    title = Row("hypervolume of all points", f"at {shares} of the budget", f"{NUM_SEEDS} seeds")
    last = Row("of last epochs alone", "the same", "what a snapshot of an early epoch is worth left out")
    return [title, *rows_of(found), last, *rows_of(found, last_epochs=True)]
