"""What a comparison of two sweeps says, in sentences. For `dashboards.compare`."""

from __future__ import annotations

import math

import numpy as np

from dashboards.comparison import LEVEL, MAX_EXACT, Comparison, SeedTest
from dashboards.figures.axes import number

_LIMITS = (
    "This is about the configurations on the two fronts, trained again; each search was run once, so it "
    "does not say which way of searching is better."
)


def reference_words(compared: Comparison) -> str:
    """The box that both hypervolumes are of, and what is covered."""
    values = ", ".join(f"{name} {number(value)}" for name, value in compared.reference.items())
    return (
        f"Both hypervolumes are against {values}: {compared.reference_from}. A point is covered where "
        "one of the other front is as good or better in every objective (C-metric, Zitzler and Thiele "
        "1999)."
    )


def verdict(compared: Comparison) -> list[str]:
    """What further seeds say, in sentences."""
    if compared.test is None:
        pairs = zip(compared.labels, compared.seed_hypervolumes, strict=True)
        lacking = " or of ".join(label for label, own in pairs if not own)
        return [
            "Nothing is said about significance: under no further seed was the front of "
            f"{lacking} trained. The seed that a point was found with flatters it; to "
            "have its front trained again, resume a sweep with --set "
            f"confirm.seeds={seeds_needed()}, or put confirm: {{seeds: {seeds_needed()}}} into its "
            "search space."
        ]
    return [*_difference(compared, compared.test), _LIMITS]


def _difference(compared: Comparison, test: SeedTest) -> list[str]:
    a, b = compared.seed_hypervolumes
    first, second = compared.labels
    kind = "exact" if test.is_exact else f"with {MAX_EXACT:,} random permutations"
    share = (np.mean(a) - np.mean(b)) / np.mean(b) if np.mean(b) else math.nan
    larger = f"{abs(share):.1%} {'larger' if share >= 0 else 'smaller'}" if math.isfinite(share) else ""
    told = (
        f"Under further seeds the hypervolume of {first} is {np.mean(a):.5g} on average (n = {len(a)}), "
        f"that of {second} {np.mean(b):.5g} (n = {len(b)})"
        + (f": {larger}. " if larger else ". ")
        + f"It is larger in {test.superiority:.0%} of the pairs. Permutation test of the means, "
        f"two-sided, {kind}: p = {test.p:.2g}."
    )
    if test.smallest_p > LEVEL:
        return [
            told,
            f"With {len(a)} against {len(b)} seeds p cannot be below {test.smallest_p:.2g}, so nothing "
            f"could have been significant at {LEVEL:g}; {seeds_needed()} against {seeds_needed()} can.",
        ]
    is_significant = test.p <= LEVEL
    return [told, f"The difference is {'' if is_significant else 'not '}significant at {LEVEL:g}."]


def seeds_needed() -> int:
    """So many seeds on each side are the fewest with which a difference can be significant."""
    return next(n for n in range(1, 100) if 2 / math.comb(2 * n, n) <= LEVEL)
