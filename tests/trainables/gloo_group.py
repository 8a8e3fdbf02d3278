"""Runs a function in a real group of gloo workers, for the tests of `trainables.distributed`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from forked import CONTEXT
from torch import distributed
from torch.multiprocessing.spawn import start_processes

from trainables.distributed import WorkerGroup, current_group

Work = Callable[[WorkerGroup], Any]


def run_in_group(work: Work, size: int, folder: Path) -> list[Any]:
    """What `work` returns in each of `size` workers, by rank; `work` is importable by name."""
    method = CONTEXT.get_start_method()
    args = work, size, folder, dict(os.environ)
    start_processes(_run_worker, args, nprocs=size, start_method=method)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(size)]


def _run_worker(rank: int, work: Work, size: int, folder: Path, environment: Mapping[str, str]) -> None:
    os.environ.update(environment)  # that it was forked from is older than what tests set
    torch.set_num_threads(1)
    rendezvous = (folder / "rendezvous").as_uri()
    distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=size)
    torch.save(work(current_group()), folder / f"{rank}.pt")
    distributed.destroy_process_group()
