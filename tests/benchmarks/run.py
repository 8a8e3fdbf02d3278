"""`make bench`: the measured figures of the README. Ratios are between figures of one run."""

from __future__ import annotations

import argparse
import functools
import platform

import torch

from orchestrator.environment import describe_environment
from tests.benchmarks import decision, driver_cost, evaluation, searches, sweeps
from tests.benchmarks.problems import PROBLEMS
from tests.benchmarks.table import Row, show
from trainables import bench

BENCHMARKS = {
    "evaluation": ("Evaluation of embeddings", evaluation.run),
    "training": (
        "Training against a plain port of the published loop",
        lambda: [Row(*row.in_words()) for row in bench.run(["--device", "cpu"])[1]],
    ),
    "overhead": ("Overhead of a trial", sweeps.run_overhead),
    "driver": ("The driver of a sweep of 10,000 trials", driver_cost.run),
    "digits": ("The digits sweep", sweeps.run_digits),
    "decision": ("A decision of early stopping", decision.run),
    **{
        f"search-{name}": (f"Searches of {name}, simulated", functools.partial(searches.run, name))
        for name in PROBLEMS
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.run", description=__doc__)
    parser.add_argument("only", nargs="*", help="all where none is named")
    names = parser.parse_args().only or list(BENCHMARKS)
    if unknown := set(names) - BENCHMARKS.keys():
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    facts = describe_environment()
    versions = ", ".join(
        f"{name} {facts[name]}" for name in ("python", "torch", "ray", "mlflow", "optuna")
    )
    print(f"{platform.machine()}, {facts['cpus']} CPUs, {torch.get_num_threads()} threads; {versions}")
    print(f"commit {facts.get('git_commit', 'unknown')}")
    for name in names:
        title, run = BENCHMARKS[name]
        show(title, run())


if __name__ == "__main__":
    main()
