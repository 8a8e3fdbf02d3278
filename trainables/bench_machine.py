"""What `trainables.bench` takes from the machine: times, peaks of memory, best rates."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch.nn import functional

from trainables.bench_rows import Run, Spread, rotate


def synchronize(device: torch.device) -> None:
    """Waits for what was started on the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def wall_time(device: torch.device, work: Callable[[], object]) -> Run:
    """Times work up to the end of what it started on the device."""

    def run() -> float:
        synchronize(device)
        started = time.perf_counter()
        work()
        synchronize(device)
        return time.perf_counter() - started

    return run


def cpu_time(work: Callable[[], object]) -> Run:
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


NUM_RATES = 30
"""Measurements, of which the best counts."""


def best_rates(precision: str, device: torch.device) -> dict[str, float]:
    """The best FLOP/s of many products and convolutions, in the arithmetic of the encoder.

    On some CPUs torch multiplies matrices by another library than it convolves, and slower.
    """
    is_gpu = device.type == "cuda"
    size, batch, channels = (8192, 256, 256) if is_gpu else (1024, 32, 64)
    num_flops = {
        "matrix product": 2 * size**3,
        "convolution": 2 * batch * 32 * 32 * channels**2 * 9,
    }
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    matrix = torch.randn(size, size, device=device, dtype=dtype)
    images = torch.randn(batch, channels, 32, 32, device=device, dtype=dtype)
    images = images.to(memory_format=torch.channels_last)
    weight = matrix[: channels * 9, :channels].reshape(channels, channels, 3, 3)
    runs = {
        "matrix product": wall_time(device, partial(torch.matmul, matrix, matrix)),
        "convolution": wall_time(device, partial(functional.conv2d, images, weight, padding=1)),
    }
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(
        "high" if is_gpu and torch.backends.cudnn.allow_tf32 else "highest"
    )
    spreads = rotate(runs, NUM_RATES)
    torch.set_float32_matmul_precision(before)
    return {name: num_flops[name] / spreads[name].low for name in runs}


def peak_mib(device: torch.device, run: Run) -> Spread | None:
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
