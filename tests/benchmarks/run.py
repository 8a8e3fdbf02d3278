"""`make bench`: the measured figures of the README. Ratios are between figures of one run."""

from __future__ import annotations

import argparse
import platform

import torch

from orchestrator.environment import describe_environment
from tests.benchmarks import driver_cost, evaluation, sweeps
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
