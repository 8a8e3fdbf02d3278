"""Takes the figures of `trainables.bench`: our training, the plain port and the floor, in turns."""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch.utils.data import default_collate

from trainables.batches import Batches
from trainables.bench_machine import best_rates, cpu_time, peak_mib, synchronize, wall_time
from trainables.bench_ours import NUM_FIRST_STEPS, Ours, prepared
from trainables.bench_rows import Row, Run, Spread, count_flops, rotate
from trainables.bench_trial import trial_row
from trainables.config import DataConfig, TrialConfig
from trainables.distributed import SINGLE
from trainables.facts import DATASET_FACTS
from trainables.images import Dataset, Subset, load_images
from trainables.metrics import evaluate
from trainables.plain_port import PlainPort, port_metrics
from trainables.randomness import generator
from trainables.reports import EpochReport
from trainables.snapshots import write_snapshot
from trainables.validation import Validation, embed, validate

SYNTHETIC = "synthetic"
PORT = "port"


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
        self._wall = partial(wall_time, device)
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
            assert facts.item_shape and facts.num_classes
            shape = (num_items + 2 * num_queries, *facts.item_shape)
            items = torch.randint(256, shape, dtype=torch.uint8, generator=draw)
            host = Subset(items, torch.randint(facts.num_classes, shape[:1], generator=draw))
            note = "once a process; random images are not read, only brought to the device"
        started = time.perf_counter()
        if host:
            drawn, test = host.to(self._device), num_items + num_queries
            data = Dataset(drawn.rows(0, num_items), drawn.rows(num_items, test), drawn.rows(test))
        else:
            data = load_images(config.dataset, config.data, self._device)
        synchronize(self._device)
        seconds = Spread.of([time.perf_counter() - started])
        self.rows.append(Row("data loading", "s", seconds, None, None, note))
        return Dataset(data.training.rows(0, num_items), data.validation.rows(0, num_queries), data.test)

    def measure(self) -> None:
        """Takes all figures."""
        self._measure_rates()
        self._measure_augmentation()
        self._measure_training()
        self._derive_compilation()
        self._measure_memory()
        self._measure_validation()
        self._measure_snapshot()
        self._measure_rates()  # again: other work may have held the machine up the first time
        floors = {figure: floor() for figure, floor in self._floors.items()}
        self.rows = [replace(row, floor=floors.get(row.figure)) for row in self.rows]
        self._derive_trials()

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
        """Takes the best rates; earlier ones stay where they were better."""
        for precision in self._options.precision:
            known = self.rates.setdefault(precision, {})
            for name, rate in best_rates(precision, self._device).items():
                known[name] = max(known.get(name, 0.0), rate)

    def _measure_augmentation(self) -> None:
        port, batches, num_rows = self._port, self._eager[0].batches, self._num_epoch_rows
        some = self._data.training.rows(0, 1024).to(torch.device("cpu"))
        on_cpu = Batches(self._eager[0].config, some, "main", SINGLE)
        starts = range(0, len(some), self._size)
        parts = [port.augmented(start, min(start + self._size, len(some))) for start in starts]
        self._add(
            "augmentation",
            {"one CPU thread": cpu_time(lambda: deque(prepared(on_cpu), maxlen=0))},
            cpu_time(lambda: [default_collate([part[i] for i in range(len(part))]) for part in parts]),
            "CPU time of batches ready for the encoder; goal: a ratio of 10",
            len(some),
        )
        images = port.augmented(0, num_rows)
        self._add(
            "augmented batches",
            {self._device.type: self._wall(lambda: deque(prepared(batches), maxlen=0))},
            self._wall(lambda: deque(port.batches(images), maxlen=0)),
            f"wall time; the port has {self._options.port_workers} workers, whose start is included",
            num_rows,
        )

    def _measure_training(self) -> None:
        port, num_items, num_rows = self._port, len(self._data.training), self._num_epoch_rows
        batches = list(prepared(self._eager[0].bare_batches))
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

    def _derive_compilation(self) -> None:
        """Makes the rows of compilation, from how long all takes once it is compiled."""
        note = (
            f"what the first {NUM_FIRST_STEPS} runs of the steps and the first epoch took beyond later "
            "ones, once; less where torch's cache on disk has the graphs; those of a trial's warm-up, "
            "whose encoder rests, come on top"
        )
        share = self._num_epoch_rows / len(self._data.training)
        for ours in self._ours:
            if ours.config.compile:
                steps_s = self._num_step_rows / self._row(f"training step, {ours.label}").ours.median
                epoch_s = self._row(f"epoch, {ours.label}").ours.median * share
                seconds = Spread.of([ours.compilation_s(steps_s, epoch_s)])
                self.rows.append(Row(f"compilation, {ours.label}", "s", seconds, None, None, note))

    def _measure_memory(self) -> None:
        note = "growth of this process in training steps"
        if self._device.type == "cuda":
            note = "all that is allocated in training steps; both sides' models are there"
        port = None if self._options.skip_port else peak_mib(self._device, self._port_steps)
        for ours in self._ours:
            if peak := peak_mib(self._device, ours.steps):
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

    def _measure_snapshot(self) -> None:
        ours, data = self._eager[0], self._data
        result = validate(ours.placed.model, data)
        report = EpochReport(ours.config.epochs, result.metrics)
        validation = Validation(report, ours.placed.model, data, result.gallery, result.queries)
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / "snapshot"
            write = self._wall(
                lambda: write_snapshot(folder, ours.config, validation, with_embeddings=True)
            )
            seconds = rotate({"": write}, self._options.repeats, warm_up=False)[""]
        note = (
            f"writing one, with embeddings, for which {len(data.test):,} test images are embedded; "
            "a trial writes one a validation at most"
        )
        self.rows.append(Row("snapshot", "s", seconds, None, None, note))

    def _derive_trials(self) -> None:
        """Makes the rows of whole trials, from rows that have their floors."""
        for ours in self._ours:
            # No validation is compiled, so the eager one of the same precision is also a compiled way's.
            parts = self._row(f"epoch, {ours.label}"), self._row(f"validation, {ours.config.precision}")
            compiled = self._row(f"compilation, {ours.label}") if ours.config.compile else None
            self.rows.append(
                trial_row(ours.label, ours.config, len(self._data.training), *parts, compiled)
            )

    def _row(self, figure: str) -> Row:
        return next(row for row in self.rows if row.figure == figure)
