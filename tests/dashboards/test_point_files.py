from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dashboards.point_files import PointFiles, read_point_files
from trainables.reports import CORRELATION, SPECTRUM, SUMMARY, TRUNCATION, TRUNCATION_CURVE, TSNE

MATRIX = np.array([[1, 0.5], [0.5, 1]], dtype=np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    evaluation = tmp_path / "epoch-0003"
    evaluation.mkdir()
    pd.DataFrame({"components": [1, 2], "knn_accuracy": [0.5, 1.0]}).to_parquet(evaluation / TRUNCATION)
    pd.DataFrame({"x": [1.0], "y": [2.0], "label": [3]}).to_parquet(evaluation / TSNE)
    np.savez_compressed(evaluation / CORRELATION, embedding=MATRIX)
    (evaluation / SUMMARY).write_text(json.dumps({"epoch": 3, "num_embedded": {"test": 300}}))
    return evaluation


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    path = tmp_path / "traces"
    path.mkdir()
    for epoch in (20, 5):
        np.savez(path / f"epoch-{epoch:04d}.npz", encoder=MATRIX.astype(np.float16))
    (path / "epoch-last.npz").write_bytes(b"of somebody else")
    return path


def test_what_is_there_is_read(folder: Path, traces: Path) -> None:
    files = read_point_files(folder, traces)
    assert set(files.tables) == {TRUNCATION, TSNE}
    assert files.tables[TRUNCATION]["components"].tolist() == [1, 2]
    assert np.array_equal(files.correlations["embedding"], MATRIX)
    assert list(files.traces) == [5, 20]
    assert files.num_embedded == {"test": 300}
    assert files.faults == {}


def test_folder_that_is_not_there_is_an_empty_one(tmp_path: Path) -> None:
    assert read_point_files(tmp_path / "none", tmp_path / "neither") == PointFiles()


@pytest.mark.parametrize("name", [TRUNCATION, TSNE, CORRELATION, SUMMARY])
def test_damaged_file_is_absent_and_the_others_are_read(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"PAR1 but not really")
    files = read_point_files(folder)
    assert list(files.faults) == [name] and files.faults[name]
    present = [*files.tables, *([CORRELATION] if files.correlations else [])]
    assert set(present) == {TRUNCATION, TSNE, CORRELATION} - {name}


def test_table_without_its_columns_or_with_gaps_is_damaged(folder: Path) -> None:
    pd.DataFrame({"stage": ["encoder"]}).to_parquet(folder / SPECTRUM)
    pd.DataFrame({"components": [1, None]}).to_parquet(folder / TRUNCATION_CURVE)
    faults = read_point_files(folder).faults
    assert "component, cumulative_share, variance" in faults[SPECTRUM]
    assert "missing values" in faults[TRUNCATION_CURVE]


@pytest.mark.parametrize(
    "matrix", [np.ones((2, 3)), np.ones(4), np.full((2, 2), np.nan), np.ones((0, 0))]
)
def test_matrix_that_is_no_correlation_is_damaged(folder: Path, matrix: np.ndarray) -> None:
    np.savez(folder / CORRELATION, embedding=matrix)
    files = read_point_files(folder)
    assert files.correlations == {} and "embedding" in files.faults[CORRELATION]


def test_arrays_that_would_run_code_are_not_loaded(folder: Path) -> None:
    np.savez(folder / CORRELATION, embedding=np.array([[object()]], dtype=object), allow_pickle=True)
    assert "pickle" in read_point_files(folder).faults[CORRELATION]


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), name=st.sampled_from([TRUNCATION, TSNE, CORRELATION]))
def test_flipped_bytes_raise_nothing(folder: Path, data: st.DataObject, name: str) -> None:
    whole = (folder / name).read_bytes()
    damaged = bytearray(whole)
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=8)):
        damaged[place] ^= data.draw(st.integers(1, 255))
    try:
        (folder / name).write_bytes(damaged)
        files = read_point_files(folder)
        assert set(files.faults) <= {name}
    finally:
        (folder / name).write_bytes(whole)
