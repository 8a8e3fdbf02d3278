"""The files of a point's final evaluation and of its trial's traces, read for the point's page.

Called by whoever makes the page, with folders of a sweep or downloaded from MLflow. Whatever of them is
missing or damaged is absent here: an older evaluation has fewer files, and a torn one must not cost
the other figures.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from trainables.reports import CORRELATION, SPECTRUM, SUMMARY, TRUNCATION, TRUNCATION_CURVE, TSNE

_COLUMNS = {
    TRUNCATION: {"components"},
    TRUNCATION_CURVE: {"components"},
    SPECTRUM: {"stage", "component", "variance", "cumulative_share"},
    TSNE: {"x", "y", "label"},
}
_Read = TypeVar("_Read")
Matrices = Mapping[str, np.ndarray]
"""Correlation matrices by stage."""


@dataclass(frozen=True)
class PointFiles:
    """What there is of a point.

    Attributes:
        tables: by file name, those of the final evaluation that are whole.
        correlations: of the validation set by stage; empty where there are none.
        traces: the same of the trial's traced epochs.
        num_embedded: items by part (training, validation, test); empty in older evaluations.
        faults: by file name what is wrong with those that are there and cannot be used.
    """

    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    correlations: Matrices = field(default_factory=dict)
    traces: Mapping[int, Matrices] = field(default_factory=dict)
    num_embedded: Mapping[str, int] = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict)


def read_point_files(evaluation: Path, traces: Path | None = None) -> PointFiles:
    """Reads what is there.

    Args:
        evaluation: the folder of the point's final evaluation.
        traces: that of its trial's traces, `epoch-NNNN.npz`.
    """
    faults: dict[str, str] = {}
    tables = {
        name: table
        for name in _COLUMNS
        if (table := _whole(evaluation / name, _read_table, faults)) is not None
    }
    stored = sorted(traces.glob("epoch-*.npz")) if traces is not None else []
    return PointFiles(
        tables=tables,
        correlations=_whole(evaluation / CORRELATION, _read_matrices, faults) or {},
        traces={
            int(path.stem.removeprefix("epoch-")): matrices
            for path in stored
            if path.stem.removeprefix("epoch-").isdecimal()
            and (matrices := _whole(path, _read_matrices, faults))
        },
        num_embedded=_whole(evaluation / SUMMARY, _read_counts, faults) or {},
        faults=faults,
    )


def _whole(path: Path, read: Callable[[Path], _Read], faults: dict[str, str]) -> _Read | None:
    try:
        return read(path)
    except FileNotFoundError:
        return None
    except Exception as error:  # noqa: BLE001  # torn archives make their readers raise anything
        faults[path.name] = f"{type(error).__name__}: {error}"
        return None


def _read_table(path: Path) -> pd.DataFrame:
    table = pd.read_parquet(path)
    if missing := _COLUMNS[path.name] - set(table.columns):
        raise ValueError(f"it has no column {', '.join(sorted(missing))}")
    if table.empty or table.isna().any(axis=None):
        raise ValueError("it has no rows, or rows with missing values")
    return table


def _read_matrices(path: Path) -> Matrices:
    # Of a torn archive that it opened itself numpy would leave the file open.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        matrices = {name: np.asarray(archive[name], dtype=np.float32) for name in archive.files}
    for name, matrix in matrices.items():
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
            raise ValueError(f"{name} is no square matrix, its shape is {matrix.shape}")
        if not np.isfinite(matrix).all():
            raise ValueError(f"{name} holds values that are not finite")
    return matrices


def _read_counts(path: Path) -> Mapping[str, int]:
    counts = json.loads(path.read_text()).get("num_embedded", {})
    return {str(name): int(number) for name, number in counts.items()}
