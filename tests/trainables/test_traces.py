from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stores import URL, MemoryStore

from trainables import traces
from trainables.disk import DiskFullError
from trainables.metrics import correlation_matrix
from trainables.models import Features
from trainables.places import local_copy
from trainables.traces import is_traced, write_trace

STAGES = {"encoder": "encoded", "unnormalized": "projected", "embedding": "embedding"}


def outputs(num: int = 60, dim: int = 6, seed: int = 0) -> Features:
    source = torch.Generator().manual_seed(seed)
    encoded, projected = torch.randn(2, num, dim, generator=source) @ torch.rand(
        2, dim, dim, generator=source
    )
    return Features(encoded, projected, torch.nn.functional.normalize(projected, dim=1))


def read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


@pytest.mark.parametrize("validate_every", [1, 5])
def test_every_doubling_of_the_number_of_validations_is_traced(validate_every: int) -> None:
    traced = [epoch for epoch in range(201) if is_traced(epoch, validate_every)]
    doublings = [validate_every * 2**power for power in range(8)]
    assert traced == [epoch for epoch in doublings if epoch <= 200]


def test_last_epoch_out_of_turn_is_not_traced() -> None:
    # Validated because it is the last one, at 8 epochs of every third.
    assert [epoch for epoch in (3, 6, 8) if is_traced(epoch, 3)] == [3, 6]


def test_trace_holds_the_correlations_of_the_last_fifth(tmp_path: Path) -> None:
    queries = outputs()
    write_trace(tmp_path / "trace.npz", queries)
    matrices = read(tmp_path / "trace.npz")
    assert matrices.keys() == STAGES.keys()
    for name, stage in STAGES.items():
        expected = correlation_matrix(getattr(queries, stage)[48:]).numpy()
        assert matrices[name].dtype == np.float16 and matrices[name].shape == (6, 6)
        # Half precision: 11 bits below 1.
        np.testing.assert_allclose(matrices[name], expected, rtol=0, atol=2**-12)


def test_a_trace_in_a_store_is_the_one_on_disk(tmp_path: Path, memory: MemoryStore) -> None:
    queries = outputs()
    write_trace(tmp_path / "trace.npz", queries)
    write_trace(f"{URL}/trace.npz", queries)
    with local_copy(f"{URL}/trace.npz") as copy:
        stored, expected = read(copy), read(tmp_path / "trace.npz")
    assert stored.keys() == expected.keys()
    assert all(np.array_equal(stored[name], expected[name]) for name in expected)


def test_first_four_fifths_do_not_matter(tmp_path: Path) -> None:
    queries = outputs()
    write_trace(tmp_path / "one.npz", queries)
    for stage in queries:
        stage[:48] = 0
    write_trace(tmp_path / "two.npz", queries)
    one, two = read(tmp_path / "one.npz"), read(tmp_path / "two.npz")
    assert all(np.array_equal(one[name], two[name]) for name in STAGES)


def test_a_fifth_of_cifars_validation_set_is_2_percent_of_its_training_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[int] = []

    def record(vectors: torch.Tensor) -> torch.Tensor:
        found.append(len(vectors))
        return correlation_matrix(vectors)

    monkeypatch.setattr(traces, "correlation_matrix", record)
    write_trace(tmp_path / "trace.npz", outputs(num=5000, dim=2))
    assert found == [1000] * 3


def test_nothing_but_the_trace_remains_in_a_new_folder(tmp_path: Path) -> None:
    path = tmp_path / "trial/traces/epoch_1.npz"
    write_trace(path, outputs())
    assert list(path.parent.iterdir()) == [path]


def test_new_trace_replaces_the_old_one(tmp_path: Path) -> None:
    path, queries = tmp_path / "trace.npz", outputs(seed=1)
    write_trace(path, outputs())
    write_trace(path, queries)
    assert list(tmp_path.iterdir()) == [path]
    expected = correlation_matrix(queries.encoded[48:]).half().numpy()
    assert np.array_equal(read(path)["encoder"], expected)


def fail_in_the_middle(path: Path, **_: Any) -> None:
    path.write_bytes(b"torn")
    raise OSError(28, "No space left on device")


def test_failing_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "trace.npz"
    write_trace(path, outputs())
    before = path.read_bytes()
    monkeypatch.setattr(np, "savez", fail_in_the_middle)
    for target in (path, tmp_path / "other.npz"):
        with pytest.raises(DiskFullError, match="its disk is full"):
            write_trace(target, outputs(seed=1))
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == before
