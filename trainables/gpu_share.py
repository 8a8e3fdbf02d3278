"""A GPU that several processes share: each keeps to its part of the memory, and says where that is full.

What is said and how much is allowed are functions of numbers; `keeps_to_share` does it. Without it one
training could take what the others of the same GPU were promised.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import NamedTuple

import torch

from trainables.errors import GpuMemoryError, NoGpuError

GIB = 2**30
OUTSIDE_BYTES = GIB // 2
"""Set aside for a process: its CUDA context and libraries lie outside of what torch counts. An allowance
of 512 MiB, not measured."""
_NEARLY = 0.9
GPUS = "resources.gpus"
"""The setting of a training's share."""


class GpuMemory(NamedTuple):
    """The memory of one GPU as a process sees it.

    Attributes:
        name: of the GPU.
        total_bytes: all of it.
        free_bytes: what no process holds.
        held_bytes: what torch holds in this process.
    """

    name: str
    total_bytes: int
    free_bytes: int
    held_bytes: int


def require_gpu(setting: str = GPUS) -> None:
    """Checks that torch finds the GPU that Ray gave this process; on the CPU a sweep would go on for
    weeks, and nobody would know why.

    Args:
        setting: that asked for the GPU.

    Raises:
        NoGpuError: it finds none.
    """
    if not torch.cuda.is_available():
        built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
        raise NoGpuError(
            f"Ray gave this process a GPU of {socket.gethostname()}, and torch {torch.__version__} "
            f"(built with {built}) finds none; see the driver there (nvidia-smi), or set {setting} to 0"
        )


def read_gpu_memory(device: int | None = None) -> GpuMemory:
    """Of a GPU; the first one where none is named. Makes a CUDA context."""
    free_bytes, total_bytes = torch.cuda.mem_get_info(device)
    name = torch.cuda.get_device_name(device)
    return GpuMemory(name, total_bytes, free_bytes, torch.cuda.memory_reserved(device))


def allowed_fraction(gpus: float, total_bytes: int, setting: str = GPUS) -> float:
    """The part of a GPU's memory that torch may hold in a process with this share of the GPU.

    Args:
        gpus: the share, such as 0.25; 1 and more is the whole GPU, of which nothing is set aside.
        total_bytes: the GPU's memory.
        setting: of the share.

    Raises:
        GpuMemoryError: nothing is left of so small a share.
    """
    if gpus >= 1:
        return 1.0
    fraction = gpus - OUTSIDE_BYTES / total_bytes
    if fraction <= 0:
        raise GpuMemoryError(
            f"{setting} {gpus:g} of {_gib(total_bytes)} is no more than the {_gib(OUTSIDE_BYTES)} that "
            f"CUDA itself needs in a process; raise {setting}"
        )
    return fraction


def share_sentence(gpus: float, memory: GpuMemory, setting: str = GPUS) -> str:
    """How much memory a share is, or which GPU it is, before anything runs.

    Args:
        gpus: the share.
        memory: as it is at that moment.
        setting: of the share: the trainings' or the final evaluations'.

    Raises:
        GpuMemoryError: nothing is left of so small a share.
    """
    allowed = allowed_fraction(gpus, memory.total_bytes, setting) * memory.total_bytes
    if gpus >= 1:
        who = "trials train" if setting == GPUS else "final evaluations run"
        return f"{who} on {memory.name}, {_gib(memory.total_bytes)}"
    what = "" if setting == GPUS else " final evaluations"
    return (
        f"{int(1 / gpus + 1e-9)}{what} at a time share a GPU: each may hold {_gib(allowed)} of the "
        f"{_gib(memory.total_bytes)} of {memory.name}"
    )


def full_sentence(gpus: float, memory: GpuMemory, setting: str = GPUS) -> str:
    """Why there was no memory, and what to change.

    Args:
        gpus: the share of the process.
        memory: as it is at that moment.
        setting: of the share.
    """
    allowed = allowed_fraction(gpus, memory.total_bytes, setting) * memory.total_bytes
    held = f"{_gib(memory.held_bytes)} of the {_gib(memory.total_bytes)} of {memory.name}"
    share, free = f"{setting} {gpus:g}", _gib(memory.free_bytes)
    is_training = setting == GPUS
    what = "this training" if is_training else "this final evaluation"
    if gpus >= 1:
        advice = "lower trial.batch_size" if is_training else "see what else runs there"
        return f"the GPU is full: {what} holds {held}, and {free} are free; {advice}"
    if memory.held_bytes < _NEARLY * allowed and memory.free_bytes < allowed - memory.held_bytes:
        return (
            f"the GPU is full before {what} has its share: it holds {held}, {share} is "
            f"{_gib(allowed)}, and only {free} are free; see what else runs there"
        )
    advice = f"raise {setting}" + (", or lower trial.batch_size" if is_training else "")
    return f"its share of the GPU is full: {share} is {_gib(allowed)}, and {what} holds {held}; {advice}"


@contextlib.contextmanager
def keeps_to_share(gpus: float, device: torch.device, setting: str = GPUS) -> Iterator[None]:
    """Lets torch hold no more of the GPU than the share while the block runs, and all of it after.

    Does nothing on a CPU.

    Args:
        gpus: the share.
        device: that the block works on.
        setting: of the share.

    Raises:
        GpuMemoryError: there was no more memory; the message is a whole sentence.
    """
    if device.type != "cuda":
        yield
        return
    torch.cuda.empty_cache()  # of an earlier training in this process, which may have had more
    total_bytes = read_gpu_memory(device.index).total_bytes
    fraction = allowed_fraction(gpus, total_bytes, setting)
    torch.cuda.set_per_process_memory_fraction(fraction, device.index)
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise GpuMemoryError(full_sentence(gpus, read_gpu_memory(device.index), setting)) from error
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device.index)


def _gib(num_bytes: float) -> str:
    return f"{num_bytes / GIB:.1f} GiB"
