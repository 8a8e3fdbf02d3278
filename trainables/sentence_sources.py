"""Reads pairs of sentences from where they are, the hub, a directory or a file, and checks every row, so
that a wrong source is refused here and not noticed in a result.

`trainables.sentence_cache` calls it once a node and source.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from trainables.errors import DataError
from trainables.hub import brief, downloads_only, hub_fault, without_noise

if TYPE_CHECKING:
    import pandas as pd

PairDataset = Literal["snli", "sentence_pairs"]
SNLI = "stanfordnlp/snli"
STSB = "sentence-transformers/stsb"
STSB_NAME = "STSb"
ENTAILMENT = 0
_SNLI_LABELS = (-1, 0, 1, 2)
"""No agreement among its annotators, entailment, neutral, contradiction."""
SCORED_SPLITS = ("validation", "test")
_SUFFIXES = (".csv", ".parquet")
_BATCH_ROWS = 10_000


@dataclass(frozen=True)
class RawPairs:
    """Pairs of sentences in the row order of their source.

    Attributes:
        first: one sentence of each pair.
        second: the other one.
        scores: how alike they are, from 0 to 1; None of pairs that mean the same.
    """

    first: list[str]
    second: list[str]
    scores: np.ndarray | None = None


@dataclass(frozen=True)
class Source:
    """Where rows come from.

    Attributes:
        setting: the setting that names it, for messages.
        name: as it was named, a path absolute.
        files: all of them; none of what is on the hub.
    """

    setting: str
    name: str
    files: tuple[Path, ...] = ()

    @property
    def is_local(self) -> bool:
        return bool(self.files)


def name_of_scored_pairs(named: str | None) -> str:
    """STSb where data.scored_pairs is left out or names it on the hub; empty of all other pairs, also of
    a copy on disk, since nothing says that it is one.
    """
    return STSB_NAME if named in (None, STSB) else ""


def is_snli(named: str | None) -> bool:
    """Whether data.source is left out or names SNLI on the hub, so that all of it is there."""
    return named in (None, SNLI)


def find_source(setting: str, named: str) -> Source:
    """What a setting names: a file, a directory, or a hub id.

    Raises:
        DataError: it is spelled as a path and there is nothing, or no file that can be read.
    """
    path = Path(named)
    with contextlib.suppress(RuntimeError):  # There is no such user: no such path either.
        path = path.expanduser()
    is_spelled_so = named.startswith((".", "/", "~")) or path.suffix.lower() in _SUFFIXES
    is_directory = path.is_dir() and any(_files(path))
    if not (is_spelled_so or path.is_file() or is_directory):
        return Source(setting, named)
    path = path.absolute()
    if not path.exists():
        raise DataError(
            f"{setting}: {path} does not exist; name a directory or a {' or '.join(_SUFFIXES)} file on "
            "this node, or a hub id"
        )
    if path.is_file() and path.suffix.lower() not in _SUFFIXES:
        raise DataError(f"{setting}: {path} is no {' or '.join(_SUFFIXES)} file; save it as one")
    files = _files(path) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{setting}: {path} has no {' or '.join(_SUFFIXES)} files")
    return Source(setting, str(path.resolve()), tuple(file.resolve() for file in files))


def _files(directory: Path) -> list[Path]:
    return sorted(p for p in directory.rglob("*") if p.suffix.lower() in _SUFFIXES and p.is_file())


def read_training_pairs(dataset: PairDataset, source: Source) -> RawPairs:
    """The pairs that mean the same: of SNLI those whose premise entails its hypothesis.

    Raises:
        DataError: the source cannot be read, a column is missing, or a row is not what it should be.
    """
    columns = {"snli": ("premise", "hypothesis", "label"), "sentence_pairs": ("sentence1", "sentence2")}
    first, second, *label = columns[dataset]
    table = _read(source, ("train",), (*columns[dataset],))["train"]
    place = _place(source, "train")
    if label:
        table = table.iloc[np.flatnonzero(_labels(table, place) == ENTAILMENT)]
    pairs = RawPairs(_sentences(table, first, place), _sentences(table, second, place))
    if len(pairs.first) < 2:
        raise DataError(f"{place} has {len(pairs.first)} pair(s) to train on; contrast needs 2")
    return pairs


def read_scored_pairs(source: Source) -> dict[str, RawPairs]:
    """The pairs of both SCORED_SPLITS with their scores.

    Raises:
        DataError: as `read_training_pairs`.
    """
    columns = ("sentence1", "sentence2", "score")
    tables = _read(source, SCORED_SPLITS, columns)
    return {split: _scored(table, _place(source, split)) for split, table in tables.items()}


def _scored(table: pd.DataFrame, place: _Place) -> RawPairs:
    scores = _numbers(table, "score", place)
    outside = np.flatnonzero(~((scores >= 0) & (scores <= 1)))
    if outside.size:
        row = table.index[outside[0]]
        raise DataError(
            f"{place.row(row)} has score {scores[outside[0]]:g}; scores are from 0 (unrelated) to 1 "
            "(the same), divide them by their largest"
        )
    if len(set(scores.tolist())) < 2:
        raise DataError(f"{place} has fewer than two different scores, which nothing correlates with")
    return RawPairs(_sentences(table, "sentence1", place), _sentences(table, "sentence2", place), scores)


def _labels(table: pd.DataFrame, place: _Place) -> np.ndarray:
    labels = _numbers(table, "label", place)
    outside = np.flatnonzero(~np.isin(labels, _SNLI_LABELS))
    if outside.size:
        row = table.index[outside[0]]
        raise DataError(
            f"{place.row(row)} has label {labels[outside[0]]:g}; SNLI has {ENTAILMENT} for "
            "entailment, 1 for neutral, 2 for contradiction and -1 for none; is it another dataset?"
        )
    return labels


def _numbers(table: pd.DataFrame, column: str, place: _Place) -> np.ndarray:
    numbers = []
    for row, value in zip(table.index, table[column].tolist(), strict=True):
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if math.isnan(number):
            text = str(value)[:40]
            raise DataError(f"{place.row(row)}: {column} is {text!r}, not a number")
        numbers.append(number)
    return np.array(numbers, np.float64)


def _sentences(table: pd.DataFrame, column: str, place: _Place) -> list[str]:
    import pandas as pd

    values = table[column].tolist()
    for row, value in zip(table.index, values, strict=True):
        if isinstance(value, str) and value.strip():
            continue
        is_missing = isinstance(value, str) or pd.isna(value) is True
        what = "is empty" if is_missing else f"holds {str(value)[:40]}, not text"
        raise DataError(f"{place.row(row)}: {column} {what}; give it a sentence, or leave the row out")
    return values


class _Place(NamedTuple):
    """Rows of a source, for messages."""

    setting: str
    name: str

    def row(self, number: int) -> str:
        """One of them, from 0."""
        return f"{self.setting}: row {number} of {self.name}"

    def __str__(self) -> str:
        return f"{self.setting}: {self.name}"


def _place(source: Source, split: str) -> _Place:
    is_file = source.is_local and Path(source.name).is_file()
    return _Place(source.setting, source.name if is_file else f"split {split} of {source.name}")


def _read(source: Source, splits: Sequence[str], columns: Sequence[str]) -> dict[str, pd.DataFrame]:
    """The rows of the splits, with their columns; their index says which row of the source each is."""
    if source.is_local and Path(source.name).is_file():
        tables = _split_by_column(_read_file(source), source, splits)
    else:
        tables = _read_directory(source, splits) if source.is_local else _read_hub(source, splits)
    for split, table in tables.items():
        missing = [name for name in columns if name not in table.columns]
        if missing:
            raise DataError(
                f"{_place(source, split)} has no column {' and no column '.join(missing)}, only "
                f"{_listed(table.columns)}; name its columns {', '.join(columns)}"
            )
    return tables


def _read_file(source: Source) -> pd.DataFrame:
    import pandas as pd

    path = source.files[0]
    try:
        if path.suffix.lower() == ".parquet":
            return pd.read_parquet(path).reset_index(drop=True)
        # As text: a sentence may be "NA", or "1984".
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except Exception as error:  # What pandas and pyarrow raise shares no base.
        raise DataError(
            f"{source.setting}: {path} cannot be read as {path.suffix[1:]} in UTF-8: {brief(error)}"
        ) from error


def _split_by_column(
    table: pd.DataFrame, source: Source, splits: Sequence[str]
) -> dict[str, pd.DataFrame]:
    """One file holds one split, or names in a column `split` which of several each row is in."""
    if len(splits) == 1:
        return {splits[0]: table}
    if "split" not in table.columns:
        raise DataError(
            f"{source.setting}: {source.name} has no column split, only {_listed(table.columns)}; say "
            f"in it of each row whether it is for {' or '.join(splits)}"
        )
    rows: dict[str, list[int]] = {split: [] for split in splits}
    for row, split in enumerate(table["split"].tolist()):
        if split not in rows:
            raise DataError(
                f"{source.setting}: row {row} of {source.name}: split is {str(split)[:40]!r}, not "
                f"{' or '.join(splits)}"
            )
        rows[split].append(row)
    for split, found in rows.items():
        if not found:
            raise DataError(f"{source.setting}: {source.name} has no row whose split is {split}")
    return {split: table.iloc[found] for split, found in rows.items()}


def _read_directory(source: Source, splits: Sequence[str]) -> dict[str, pd.DataFrame]:
    if set("*?[]") & set(source.name):
        raise DataError(
            f"{source.setting}: Hugging Face datasets takes the brackets, * or ? in {source.name} for "
            "wildcards; rename the directory"
        )
    from datasets import load_dataset

    try:
        # Streaming reads the files themselves; otherwise they are first copied into a cache.
        with without_noise(), tempfile.TemporaryDirectory() as locks:
            found = load_dataset(source.name, streaming=True, cache_dir=locks)
            return {split: _rows(found, split, source) for split in splits}
    except DataError:
        raise
    except Exception as error:  # What pyarrow, fsspec and yaml raise shares no base.
        raise DataError(
            f"{source.setting}: {source.name} cannot be read as one dataset: {brief(error)}; see that "
            "its files are whole and have the same columns"
        ) from error


def _read_hub(source: Source, splits: Sequence[str]) -> dict[str, pd.DataFrame]:
    from datasets import load_dataset
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    fault = hub_fault(source.name, "dataset")
    has_answered = fault is None or isinstance(fault, HfHubHTTPError)
    try:
        with without_noise(), contextlib.nullcontext() if has_answered else downloads_only():
            found = load_dataset(source.name)
            return {split: _rows(found, split, source) for split in splits}
    except DataError:
        raise
    except Exception as error:  # What httpx, pyarrow and yaml raise shares no base.
        cause = fault or error
        if isinstance(cause, (HFValidationError, RepositoryNotFoundError)):
            raise DataError(
                f"{source.setting}: {source.name} is neither a file, nor a directory with Parquet or "
                "CSV files, nor a dataset on the hub that you may read (a relative path begins with ./)"
            ) from error
        raise DataError(
            f"{source.setting}: {source.name} cannot be had from the hub: {brief(cause)}; either give "
            f"this node network access to the hub, or set {source.setting} to a directory with its files"
        ) from error


def _rows(found: Any, split: str, source: Source) -> pd.DataFrame:
    import pandas as pd

    if split not in found:
        raise DataError(
            f"{source.setting}: {source.name} has no split {split}, only {_listed(found)}; its files "
            f"are told apart by their names, such as {split}.parquet or {split}.csv"
        )
    tables = [t.to_pandas() for t in found[split].with_format("arrow").iter(batch_size=_BATCH_ROWS)]
    if not tables:
        raise DataError(f"{source.setting}: split {split} of {source.name} has no rows")
    return pd.concat(tables, ignore_index=True)


def _listed(names: Any) -> str:
    return ", ".join(map(str, names)) or "none"
