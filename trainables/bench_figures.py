"""Takes the figures of `trainables.bench`: our training, the plain port and the floor, in turns."""

from __future__ import annotations

import argparse
import ctypes
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import default_collate

from trainables.batches import Batches
from trainables.bench_rows import Row, Run, Spread, count_flops, rotate
from trainables.config import DATASET_FACTS, DataConfig, TrialConfig
from trainables.distributed import SINGLE
from trainables.execution import cudnn_choices, place_model
from trainables.images import Dataset, Subset, load_dataset
from trainables.metrics import evaluate
from trainables.models import ImageNormalization
from trainables.plain_port import PlainPort, port_metrics
from trainables.randomness import generator
from trainables.training import embed, main_optimizer, train_epoch, validate

SYNTHETIC = "synthetic"
PORT = "port"


def _cpu_time(work: Callable[[], object]) -> Run:
    """Takes the CPU time of work on one thread."""

    def run() -> float:
        num_threads = torch.get_num_threads()
        torch.set_num_threads(1)
        started = time.process_time()
        try:
            work()
        finally:
            torch.set_num_threads(num_threads)
        return time.process_time() - started

    return run


def _prepared(batches: Batches) -> Iterator[tuple[Tensor, Tensor]]:
    """An epoch's items as the encoder takes them, with their labels."""
    normalize = ImageNormalization()
    for batch in batches.epoch():
        yield normalize.to(batch.items.device)(batch.items.float() / 255), batch.labels


class Ours:
    """Our training as it is, executed one way, on the first items of a dataset."""

    def __init__(
        self, config: TrialConfig, data: Subset, num_step_rows: int, num_epoch_rows: int
    ) -> None:
        self.label = config.precision + (" compiled" if config.compile else "")
        self.config = config
        self.placed = place_model(config, data.labels.device)
        self._optimizer = main_optimizer(config, self.placed.model)
        self._items = data.items[: config.batch_size]
        bare = config.model_copy(update={"augmentation": "none"})
        self.bare_batches = Batches(bare, data.rows(0, num_step_rows), "main", SINGLE)
        self.batches = Batches(config, data.rows(0, num_epoch_rows), "main", SINGLE)
        if config.compile:  # CUDA graphs run as they are, are recorded, and are only then replayed
            for train in (self.steps, self.steps, self.steps, self.epoch):
                train()

    def steps(self) -> float:
        """Seconds of some steps without augmentation."""
        return self._train(self.bare_batches)

    def epoch(self) -> float:
        return self._train(self.batches)

    def _train(self, batches: Batches) -> float:
        with cudnn_choices(self.config):
            return train_epoch(self.config, self.placed, self._optimizer, batches, SINGLE).time_s

    def forward(self) -> None:
        self.placed.model.train()
        with cudnn_choices(self.config):
            self.placed.model(self._items)


class Bench:
    """All figures of one run of the command.

    Attributes:
        rows: what `measure` found.
        rates: the best FLOP/s of matrix products and convolutions, by precision.

    Args:
        options: the command line's.
        device: where both sides train.

    Raises:
        DataError: the source cannot be read.
    """

    def __init__(self, options: argparse.Namespace, device: torch.device) -> None:
        self._options, self._device, self._size = options, device, options.batch_size
        self._flops = count_flops(options.encoder)
        self.rates: dict[str, dict[str, float]] = {}
        self._floors: dict[str, Callable[[], float]] = {}
        self.rows: list[Row] = []
        config = TrialConfig(
            dataset=options.dataset,
            data=DataConfig(source=None if options.source == SYNTHETIC else options.source),
            encoder=options.encoder,
            encoder_weights="none",
            batch_size=options.batch_size,
            seed=options.seed,
        )
        self._data = self._load(config)
        num_items = len(self._data.training)
        num_steps = options.steps or (20 if device.type == "cuda" else 2)
        self._num_step_rows = min(num_steps * self._size, num_items)
        self._num_epoch_rows = self._num_step_rows if options.steps else num_items
        rows = self._num_step_rows, self._num_epoch_rows
        self._ours = [
            Ours(config.model_copy(update={"precision": p, "compile": c}), self._data.training, *rows)
            for c in ([False, True] if options.compile else [False])
            for p in options.precision
        ]
        self._eager = [ours for ours in self._ours if not ours.config.compile]
        self._port = PlainPort(config, self._data, options.port_workers)

    def _load(self, config: TrialConfig) -> Dataset:
        """Brings the data to the device, and makes the row of that."""
        num_items, num_queries = self._options.items, max(self._options.items // 9, 20)
        host, note = None, "once a process, from a cache, which the first run builds"
        if self._options.source == SYNTHETIC:
            facts, draw = DATASET_FACTS[config.dataset], generator(config.seed, "synthetic images")
            shape = (num_items + num_queries, *facts.item_shape)
            items = torch.randint(256, shape, dtype=torch.uint8, generator=draw)
            host = Subset(items, torch.randint(facts.num_classes, shape[:1], generator=draw))
            note = "once a process; random images are not read, only brought to the device"
        started = time.perf_counter()
        if host:
            both = host.to(self._device)
            data = Dataset(both.rows(0, num_items), both.rows(num_items), both.rows(num_items))
        else:
            data = load_dataset(config.dataset, config.data, self._device)
        self._synchronize()
        seconds = Spread.of([time.perf_counter() - started])
        self.rows.append(Row("data loading", "s", seconds, None, None, note))
        return Dataset(data.training.rows(0, num_items), data.validation.rows(0, num_queries), data.test)

    def measure(self) -> None:
        """Takes all figures."""
        self._measure_rates()
        self._measure_augmentation()
        self._measure_training()
        self._measure_memory()
        self._measure_validation()
        self._measure_rates()  # again: other work may have held the machine up the first time
        floors = {figure: floor() for figure, floor in self._floors.items()}
        self.rows = [replace(row, floor=floors.get(row.figure)) for row in self.rows]

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _wall(self, work: Callable[[], object]) -> Run:
        """Times work up to the end of what it started on the device."""

        def run() -> float:
            self._synchronize()
            started = time.perf_counter()
            work()
            self._synchronize()
            return time.perf_counter() - started

        return run

    def _add(
        self,
        figure: str,
        ours: Mapping[str, Run],
        port: Run,
        note: str,
        num_images: int = 0,
        flops: float = 0,
        floor_s: float = 0,
        warm_up: bool = True,
    ) -> None:
        """Measures a figure: a row for each of ours.

        Args:
            figure: its name, to which that of each of ours is added.
            ours: the runs by the way in which ours is executed.
            port: the port's.
            note: how it is measured.
            num_images: gives images/s; 0: seconds.
            flops: floating-point operations of the floor, at the rate of each of ours.
            floor_s: seconds of the floor beside those.
            warm_up: whether an untimed run comes first.
        """
        runs = dict(ours) if self._options.skip_port else {**ours, PORT: port}
        spreads = rotate(runs, self._options.repeats, warm_up)
        unit = "images/s" if num_images else "s"
        if num_images:
            spreads = {name: spread.as_rate(num_images) for name, spread in spreads.items()}
        for label in ours:
            row = Row(f"{figure}, {label}", unit, spreads[label], spreads.get(PORT), None, note)
            self.rows.append(row)
            if flops or floor_s:
                self._floors[row.figure] = partial(self._floor, label, num_images, flops, floor_s)

    def _floor(self, label: str, num_images: int, flops: float, floor_s: float) -> float:
        if flops:
            floor_s += flops / max(self.rates[label.split(maxsplit=1)[0]].values())
        return num_images / floor_s if num_images else floor_s

    def _measure_rates(self) -> None:
        """The best of many products and convolutions, in the arithmetic of the encoder.

        On some CPUs torch multiplies matrices by another library than it convolves, and slower.
        """
        is_gpu = self._device.type == "cuda"
        size, batch, channels = (8192, 256, 256) if is_gpu else (1024, 32, 64)
        num_flops = {
            "matrix product": 2 * size**3,
            "convolution": 2 * batch * 32 * 32 * channels**2 * 9,
        }
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(
            "high" if is_gpu and torch.backends.cudnn.allow_tf32 else "highest"
        )
        for precision in self._options.precision:
            dtype = torch.bfloat16 if precision == "bf16" else torch.float32
            matrix = torch.randn(size, size, device=self._device, dtype=dtype)
            images = torch.randn(batch, channels, 32, 32, device=self._device, dtype=dtype)
            images = images.to(memory_format=torch.channels_last)
            weight = matrix[: channels * 9, :channels].reshape(channels, channels, 3, 3)
            runs = {
                "matrix product": self._wall(partial(torch.matmul, matrix, matrix)),
                "convolution": self._wall(partial(functional.conv2d, images, weight, padding=1)),
            }
            spreads = rotate(runs, 30)
            best = self.rates.setdefault(precision, dict.fromkeys(runs, 0.0))
            for name in runs:
                best[name] = max(best[name], num_flops[name] / spreads[name].low)
        torch.set_float32_matmul_precision(before)

    def _measure_augmentation(self) -> None:
        port, batches, num_rows = self._port, self._eager[0].batches, self._num_epoch_rows
        some = self._data.training.rows(0, 1024).to(torch.device("cpu"))
        on_cpu = Batches(self._eager[0].config, some, "main", SINGLE)
        starts = range(0, len(some), self._size)
        parts = [port.augmented(start, min(start + self._size, len(some))) for start in starts]
        self._add(
            "augmentation",
            {"one CPU thread": _cpu_time(lambda: deque(_prepared(on_cpu), maxlen=0))},
            _cpu_time(lambda: [default_collate([part[i] for i in range(len(part))]) for part in parts]),
            "CPU time of batches ready for the encoder; goal: a ratio of 10",
            len(some),
        )
        images = port.augmented(0, num_rows)
        self._add(
            "augmented batches",
            {self._device.type: self._wall(lambda: deque(_prepared(batches), maxlen=0))},
            self._wall(lambda: deque(port.batches(images), maxlen=0)),
            f"wall time; the port has {self._options.port_workers} workers, whose start is included",
            num_rows,
        )

    def _measure_training(self) -> None:
        port, num_items, num_rows = self._port, len(self._data.training), self._num_epoch_rows
        batches = list(_prepared(self._eager[0].bare_batches))
        self._add(
            "forward",
            {ours.label: self._wall(ours.forward) for ours in self._eager},
            self._wall(lambda: port.forward(batches[0][0])),
            "one batch in training mode, gradient recorded",
            len(batches[0][0]),
            len(batches[0][0]) * self._flops.forward,
        )
        self._port_steps = self._wall(lambda: [port.train_step(*batch) for batch in batches])
        self._add(
            "training step",
            {ours.label: ours.steps for ours in self._ours},
            self._port_steps,
            f"forward, loss, backward, clipping, AdamW; {len(batches)} step(s) a repetition",
            self._num_step_rows,
            self._num_step_rows * self._flops.both_ways,
        )
        scale, images = num_items / num_rows, port.augmented(0, num_rows)
        num_steps = math.ceil(num_rows / self._size)
        self._add(
            "epoch",
            {ours.label: lambda ours=ours: ours.epoch() * scale for ours in self._ours},
            lambda: port.train_epoch(images).extrapolated_s(scale),
            f"{num_items:,} images, augmented; "
            + ("measured whole" if scale == 1 else f"extrapolated from {num_steps} step(s)"),
            flops=num_items * self._flops.both_ways,
            warm_up=False,
        )

    def _measure_memory(self) -> None:
        note = "growth of this process in training steps"
        if self._device.type == "cuda":
            note = "all that is allocated in training steps; both sides' models are there"
        port = None if self._options.skip_port else _peak_mib(self._device, self._port_steps)
        for ours in self._ours:
            if peak := _peak_mib(self._device, ours.steps):
                self.rows.append(Row(f"peak memory, {ours.label}", "MiB", peak, port, None, note))

    def _measure_validation(self) -> None:
        port, data, model = self._port, self._data, self._eager[0].placed.model
        gallery, queries = (embed(model, part).embedding for part in (data.training, data.validation))
        sides = gallery, data.training.labels, queries, data.validation.labels
        arrays = [side.cpu().numpy() for side in sides]
        product = self._wall(lambda: [part @ gallery.T for part in queries.split(1024)])
        floor_s = rotate({"": product}, 10)[""].low
        self._add(
            "metrics",
            {"all": self._wall(lambda: evaluate(*sides))},
            self._wall(lambda: port_metrics(*arrays)),
            f"of the same {len(gallery):,} embeddings and {len(queries):,} queries; floor: one product",
            floor_s=floor_s,
        )
        num_images = len(gallery) + len(queries)
        flops = num_images * self._flops.forward

        def embed_both(ours: Ours) -> None:
            for part in (data.training, data.validation):
                embed(ours.placed.model, part)

        self._add(
            "embedding",
            {ours.label: self._wall(lambda ours=ours: embed_both(ours)) for ours in self._eager},
            self._wall(lambda: (port.embed(port.gallery), port.embed(port.queries))),
            f"{num_images:,} images, unaugmented",
            num_images,
            flops,
        )
        self._add(
            "validation",
            {o.label: self._wall(lambda o=o: validate(o.placed.model, data)) for o in self._eager},
            self._wall(port.validate),
            "embedding and metrics; ours has five more metrics than the port",
            flops=flops,
            floor_s=floor_s,
            warm_up=False,
        )


def _peak_mib(device: torch.device, run: Run) -> Spread | None:
    """The peak of memory while something runs; None where the system does not say.

    On a GPU all that is allocated; on a CPU how far the process grew, once what it had freed was
    given back.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return Spread.of([torch.cuda.max_memory_allocated(device) / 2**20])
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = _resident_kib("VmRSS")
        run()
        return Spread.of([max(_resident_kib("VmHWM") - before, 1) / 1024])
    except (OSError, AttributeError):  # only Linux has these, and only with the GNU C library
        return None


def _resident_kib(name: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{name}:")[1].split(maxsplit=1)[0])
