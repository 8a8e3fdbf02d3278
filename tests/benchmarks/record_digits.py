"""`python -m tests.benchmarks.record_digits OUT.parquet`: trains many configurations of the digits space
and writes every epoch's metrics as one table, from which searches are simulated.

Each training has a file of its own in OUT.parts until all are there, so a run that was cut off goes on
where it was when the same command is given again.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.environment import describe_environment
from orchestrator.proposals import low_discrepancy_point
from orchestrator.search_space import Value, to_trial_config
from orchestrator.settings import load_settings

SPACE = Path(__file__).parents[2] / "search_spaces" / "digits.yaml"
NUM_CONFIGURATIONS = 150
DRAW_SEED = 2025
"""Of the Sobol sequence that the configurations are."""
TRAINING_SEEDS = (42, 43)
NUM_EPOCHS = 18
"""Of digits.yaml's 60, with the whole cosine within: rungs at 2 and 6 are a ninth and a third of it."""
METRICS = (
    "knn_accuracy",
    "recall_at_1",
    "recall_at_5",
    "d_eff",
    "d_eff_90",
    "d_eff_95",
    "d_eff_999",
    "encoder_d_eff",
    "correlation_rms",
    "reconstruction_error_relative",
    "train_loss",
    "epoch_time_s",
    "validation_time_s",
)
_OVERRIDES = [
    f"trial.epochs={NUM_EPOCHS}",
    "trial.validate_every=1",
    "trial.patience_epochs=null",
    "trial.device=cpu",
    # A layout, not a setting of what is computed: 0.31 s an epoch on one thread, not 0.37.
    "trial.channels_last=false",
]


class Training(NamedTuple):
    """One training of the table.

    Attributes:
        configuration: its number in the Sobol sequence.
        values: of the parameters that exist in it.
    """

    configuration: int
    seed: int
    values: dict[str, Value]

    @property
    def part(self) -> str:
        return f"{self.configuration:04d}-{self.seed}.parquet"


def trainings(num_configurations: int = NUM_CONFIGURATIONS) -> list[Training]:
    """All trainings: each configuration once, then all of them with the next seed."""
    space = load_settings(SPACE).search_space
    values = [low_discrepancy_point(space, DRAW_SEED, i) for i in range(num_configurations)]
    return [Training(i, seed, v) for seed in TRAINING_SEEDS for i, v in enumerate(values)]


def record(training: Training, folder: Path) -> float:
    """Trains one and writes its part; a training that diverges has the epochs before that.

    Returns:
        Its last 5-NN accuracy; NaN where it diverged in its first epoch.
    """
    import torch

    from trainables.reports import DivergedError
    from trainables.training import fit

    torch.set_num_threads(1)
    base = load_settings(SPACE, _OVERRIDES).trial.model_copy(update={"seed": training.seed})
    rows: list[dict[str, Any]] = []

    def add(epoch: int, metrics: dict[str, float]) -> None:
        key = {"configuration": training.configuration, "seed": training.seed, "epoch": epoch}
        rows.append({**key, **training.values, **{name: metrics[name] for name in METRICS}})

    try:
        fit(
            to_trial_config(base, training.values),
            lambda validation: add(validation.report.epoch, validation.report.metrics),
        )
    except DivergedError as error:
        print(f"{training.part}: {error}", flush=True)
    temporary = folder / f".{training.part}"
    pd.DataFrame(rows).to_parquet(temporary)
    temporary.replace(folder / training.part)
    return rows[-1]["knn_accuracy"] if rows else math.nan


def assemble(parts: list[Path], out: Path) -> None:
    """One table of all parts: metrics in float32, the machine and the settings in its metadata."""
    frame = pd.concat([pd.read_parquet(part) for part in parts], ignore_index=True)
    space = load_settings(SPACE).search_space
    keys = ["configuration", "seed", "epoch"]
    frame = frame.sort_values(keys, ignore_index=True)[[*keys, *space, *METRICS]]
    kinds = dict.fromkeys(METRICS, "float32") | {"configuration": "int16", "epoch": "int16"}
    kinds |= {"head.depth": "Int8", "head.kind": "category"}
    table = pa.Table.from_pandas(frame.astype(kinds), preserve_index=False)
    facts = {
        "trial": load_settings(SPACE, _OVERRIDES).trial.model_dump(mode="json"),
        "draw_seed": DRAW_SEED,
        "environment": describe_environment(),
    }
    metadata = {**(table.schema.metadata or {}), b"monocon": json.dumps(facts).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), out, compression="zstd")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.record_digits", description=__doc__
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--configurations", type=int, default=NUM_CONFIGURATIONS)
    parser.add_argument(
        "--assemble", action="store_true", help="train nothing; a table of the seeds that are whole"
    )
    arguments = parser.parse_args()
    folder = arguments.out.with_suffix(".parts")
    folder.mkdir(parents=True, exist_ok=True)
    wanted = trainings(arguments.configurations)
    left = [training for training in wanted if not (folder / training.part).exists()]
    if arguments.assemble:
        unfinished = {training.seed for training in left}
        wanted, left = [training for training in wanted if training.seed not in unfinished], []
    os.environ["OMP_NUM_THREADS"] = "1"  # read by the processes below when they import torch
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.processes, mp_context=context) as pool:
        futures = {pool.submit(record, training, folder): training for training in left}
        for done, future in enumerate(as_completed(futures), 1):
            name = futures[future].part
            print(f"{done}/{len(left)} {name}: {future.result():.3f}", flush=True)
    assemble([folder / training.part for training in wanted], arguments.out)
    print(f"{arguments.out}: {len(wanted)} trainings, {arguments.out.stat().st_size / 2**10:.0f} KiB")


if __name__ == "__main__":
    main()
