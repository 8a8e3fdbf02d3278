"""Trainings that run at the same time on one device, each in a process of its own; for
`trainables.bench_sharing`.
"""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.connection import Connection
from typing import NamedTuple

import torch

from trainables.bench_machine import peak_mib, synchronize
from trainables.bench_ours import Ours
from trainables.config import TrialConfig
from trainables.errors import GpuMemoryError
from trainables.facts import DATASET_FACTS
from trainables.gpu_share import keeps_to_share
from trainables.images import Subset
from trainables.randomness import generator

_NUM_STEPS = 2
"""Steps between two looks at the clock."""


class Trained(NamedTuple):
    """What one process did.

    Attributes:
        images_per_s: that it trained on.
        peak_mib: of its memory; None where the system does not say.
        fault: why it could not.
    """

    images_per_s: float
    peak_mib: float | None
    fault: str = ""


class Measured(NamedTuple):
    """What all that ran at once did together; `peak_mib` is the largest of one of them."""

    images_per_s: float
    peak_mib: float | None
    fault: str


def together(trained: list[Trained]) -> Measured:
    """Sums what ran at once."""
    fault = next((one.fault for one in trained if one.fault), "")
    peaks = [one.peak_mib for one in trained if one.peak_mib is not None]
    return Measured(sum(one.images_per_s for one in trained), max(peaks, default=None), fault)


class Trainings:
    """Processes that train when they are told to; they end with the block.

    Args:
        config: what each trains, on random images.
        num: how many processes.
        num_threads: of each.
    """

    def __init__(self, config: TrialConfig, num: int, num_threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._connections: list[Connection] = []
        self._processes = []
        for number in range(num):
            ours, theirs = context.Pipe()
            own = config.model_copy(update={"seed": config.seed + number})
            process = context.Process(target=_serve, args=(theirs, own, num_threads), daemon=True)
            process.start()
            theirs.close()
            self._connections.append(ours)
            self._processes.append(process)

    def __enter__(self) -> Trainings:
        return self

    def __exit__(self, *error: object) -> None:
        for connection in self._connections:
            connection.close()
        for process in self._processes:
            process.join(10)
            process.kill()

    def measure(self, num: int, seconds: float) -> Measured:
        """Has `num` of the processes train for so long, all from the same moment on.

        Raises:
            EOFError: a process died.
        """
        taking_part = self._connections[:num]
        for connection in taking_part:
            connection.send((1 / num, seconds))
        for connection in taking_part:
            connection.recv()  # its model is there, and warm
        for connection in taking_part:
            connection.send("go")
        return together([connection.recv() for connection in taking_part])


def _serve(connection: Connection, config: TrialConfig, num_threads: int) -> None:
    """The process. Between measurements it holds no model, so that others have the device."""
    torch.set_num_threads(num_threads)
    while True:
        try:
            share, seconds = connection.recv()
        except (EOFError, ConnectionError):
            return
        connection.send(_train(connection, config, share, seconds))


def _train(connection: Connection, config: TrialConfig, share: float, seconds: float) -> Trained:
    device = torch.device(config.device)
    is_ready = False
    try:
        with keeps_to_share(share, device):
            data = _random_images(config, device)
            ours = Ours(config, data, len(data), len(data))
            ours.steps()
            is_ready = _start_together(connection)
            num_images, taken_s = 0, 0.0

            def run() -> float:
                nonlocal num_images, taken_s
                started = time.perf_counter()
                while taken_s < seconds:
                    ours.steps()
                    num_images += len(data)
                    synchronize(device)
                    taken_s = time.perf_counter() - started
                return taken_s

            peak = peak_mib(device, run)
            return Trained(num_images / taken_s, peak.median if peak else None)
    except GpuMemoryError as error:
        if not is_ready:
            _start_together(connection)  # the others wait for all
        return Trained(0.0, None, str(error))


def _start_together(connection: Connection) -> bool:
    connection.send("ready")
    connection.recv()
    return True


def _random_images(config: TrialConfig, device: torch.device) -> Subset:
    """Enough for some steps; only the encoder's work depends on their number."""
    facts = DATASET_FACTS[config.dataset]
    assert facts.item_shape and facts.num_classes
    draw = generator(config.seed, "synthetic images")
    num = _NUM_STEPS * config.batch_size
    items = torch.randint(256, (num, *facts.item_shape), dtype=torch.uint8, generator=draw)
    labels = torch.randint(facts.num_classes, (num,), generator=draw)
    return Subset(items, labels).to(device)
