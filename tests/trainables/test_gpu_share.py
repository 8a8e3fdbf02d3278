"""The share of a GPU, with numbers in place of one."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from trainables import gpu_share
from trainables.errors import GpuMemoryError, NoGpuError
from trainables.gpu_share import (
    GIB,
    OUTSIDE_BYTES,
    GpuMemory,
    allowed_fraction,
    full_sentence,
    keeps_to_share,
    require_gpu,
    share_sentence,
)

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
TOTAL = 80 * GIB


def memory(held: float, free: float) -> GpuMemory:
    """In GiB."""
    return GpuMemory("A100", TOTAL, round(free * GIB), round(held * GIB))


@pytest.mark.parametrize(("cuda", "built"), [("13.0", "CUDA 13.0"), (None, "no CUDA")])
def test_a_gpu_that_torch_does_not_find_is_told(
    cuda: str | None, built: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        NoGpuError, match=rf"a GPU of .+ \(built with {built}\) finds none; see the driver"
    ):
        require_gpu()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    require_gpu()


def test_a_whole_gpu_is_named() -> None:
    assert share_sentence(1, memory(0, 80)) == "trials train on A100, 80.0 GiB"


@pytest.mark.parametrize("number", [2, 3, 4, 8])
def test_all_shares_and_what_cuda_needs_for_each_fit(number: int) -> None:
    allowed = allowed_fraction(1 / number, TOTAL) * TOTAL
    assert number * (allowed + OUTSIDE_BYTES) == pytest.approx(TOTAL)


@pytest.mark.parametrize("gpus", [1, 2])
def test_a_whole_gpu_is_not_limited(gpus: float) -> None:
    assert allowed_fraction(gpus, TOTAL) == 1


def test_a_share_that_cuda_alone_fills_is_refused() -> None:
    with pytest.raises(GpuMemoryError, match=r"resources.gpus 0.05 of 8.0 GiB is no more than the 0.5"):
        allowed_fraction(0.05, 8 * GIB)


def test_a_share_is_told_in_gib() -> None:
    assert share_sentence(0.25, memory(0, 80)) == (
        "4 at a time share a GPU: each may hold 19.5 GiB of the 80.0 GiB of A100"
    )


@pytest.mark.parametrize(
    ("gpus", "facts", "expected"),
    [
        (0.25, memory(19.3, 40), "its share of the GPU is full: resources.gpus 0.25 is 19.5 GiB"),
        # It wanted more at once than it had left, while the GPU had room.
        (0.25, memory(2, 70), "raise resources.gpus, or lower trial.batch_size"),
        (0.25, memory(5, 1), "only 1.0 GiB are free; see what else runs there"),
        (1, memory(79, 0.2), "holds 79.0 GiB of the 80.0 GiB of A100, and 0.2 GiB are free; lower"),
    ],
    ids=["share is full", "one piece too large", "others hold it", "whole GPU"],
)
def test_what_is_said_where_memory_ends(gpus: float, facts: GpuMemory, expected: str) -> None:
    said = full_sentence(gpus, facts)
    assert expected in said
    assert ("raise resources.gpus" in said) == ("only" not in said and gpus < 1)


@dataclass
class FakeCuda:
    """Stands for `torch.cuda`."""

    fraction: float = 1.0
    calls: list[str] = field(default_factory=list)

    def set_per_process_memory_fraction(self, fraction: float, device: Any = None) -> None:
        self.calls.append(f"limit {fraction:.2f}")
        self.fraction = fraction

    def empty_cache(self) -> None:
        self.calls.append("empty")

    def mem_get_info(self, device: Any = None) -> tuple[int, int]:
        return 40 * GIB, TOTAL

    def get_device_name(self, device: Any = None) -> str:
        return "A100"

    def memory_reserved(self, device: Any = None) -> int:
        return 19 * GIB


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()
    for name in vars(FakeCuda):
        if not name.startswith("_") and callable(getattr(fake, name)):
            monkeypatch.setattr(gpu_share.torch.cuda, name, getattr(fake, name))
    return fake


def test_a_reused_process_is_limited_anew_for_each_training(cuda: FakeCuda) -> None:
    for gpus in (0.5, 0.25):
        with keeps_to_share(gpus, CUDA):
            assert cuda.fraction == allowed_fraction(gpus, TOTAL)
        assert cuda.fraction == 1
    assert cuda.calls == ["empty", "limit 0.49", "limit 1.00", "empty", "limit 0.24", "limit 1.00"]


def test_a_full_share_is_one_sentence_and_the_limit_ends(cuda: FakeCuda) -> None:
    full = pytest.raises(GpuMemoryError, match="its share of the GPU is full")
    with full as caught, keeps_to_share(0.25, CUDA):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB ...")
    assert cuda.fraction == 1
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_another_error_stays_what_it_is(cuda: FakeCuda) -> None:
    with pytest.raises(ValueError, match="other"), keeps_to_share(0.25, CUDA):
        raise ValueError("other")
    assert cuda.fraction == 1


def test_a_cpu_has_no_share(cuda: FakeCuda) -> None:
    with keeps_to_share(0.25, CPU):
        pass
    assert cuda.calls == []


def test_a_final_evaluation_names_its_own_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = "evaluation.gpus"
    told = share_sentence(0.25, memory(0, 80), setting)
    assert told.startswith("4 final evaluations at a time share a GPU: each may hold 19.5 GiB")
    assert share_sentence(1, memory(0, 80), setting) == "final evaluations run on A100, 80.0 GiB"
    full = full_sentence(0.25, memory(19.3, 40), setting)
    assert full.endswith(
        "this final evaluation holds 19.3 GiB of the 80.0 GiB of A100; raise evaluation.gpus"
    )
    assert "batch_size" not in full + full_sentence(1, memory(79, 0.2), setting)
    with pytest.raises(GpuMemoryError, match=r"evaluation.gpus 0.05 of .*; raise evaluation.gpus"):
        allowed_fraction(0.05, 8 * GIB, setting)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(NoGpuError, match=r"or set evaluation\.gpus to 0"):
        require_gpu(setting)
