"""Reads pairs of sentences from where they are: the hub, a directory, or a file.

`trainables.sentence_cache` calls it once a node and source; `trainables.sentence_tables` checks rows.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from trainables.errors import DataError
from trainables.hub import brief, downloads_only, hub_fault, without_noise
from trainables.sentence_tables import (
    ENTAILMENT,
    Place,
    check_columns,
    labels_of,
    listed,
    read_csv,
    read_parquet,
    scores_of,
    sentences_of,
)

if TYPE_CHECKING:
    import pandas as pd

PairDataset = Literal["snli", "sentence_pairs"]
SNLI = "stanfordnlp/snli"
STSB = "sentence-transformers/stsb"
STSB_NAME = "STSb"
SCORED_SPLITS = ("validation", "test")
_SPLITS = ("train", *SCORED_SPLITS)
_SUFFIXES = (".csv", ".parquet")
_OTHER_SUFFIXES = (
    *(".tsv", ".tab", ".txt", ".json", ".jsonl", ".ndjson", ".arrow", ".feather", ".pkl"),
    *(".xls", ".xlsx", ".ods", ".gz", ".bz2", ".xz", ".zst", ".zip", ".tar"),
)
"""Of files that are not read: a name with one is no hub id."""
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
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
        DataError: it is no hub id and there is nothing, or no file that can be read, or files of two
            kinds.
    """
    path = Path(named)
    with contextlib.suppress(RuntimeError):  # There is no such user: no such path either.
        path = path.expanduser()
    is_spelled_so = named.startswith((".", "/", "~")) or not _HUB_ID.fullmatch(named)
    is_spelled_so |= path.suffix.lower() in (*_SUFFIXES, *_OTHER_SUFFIXES)
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
    if len(kinds := {file.suffix.lower() for file in files}) > 1:
        examples = [next(f.name for f in files if f.suffix.lower() == kind) for kind in sorted(kinds)]
        raise DataError(
            f"{setting}: {path} has both {' and '.join(sorted(kinds))} files ({', '.join(examples)}); "
            "leave files of one kind in it"
        )
    return Source(setting, str(path.resolve()), tuple(file.resolve() for file in files))


def _files(directory: Path) -> list[Path]:
    """All in it and below, except what is hidden, such as the checkpoints of notebooks."""
    found = (p for p in directory.rglob("*") if p.suffix.lower() in _SUFFIXES and p.is_file())
    return sorted(p for p in found if not any(map(_is_hidden, p.relative_to(directory).parts)))


def _is_hidden(name: str) -> bool:
    """As Hugging Face datasets has it."""
    return name.startswith((".", "__"))


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
        table = table.iloc[np.flatnonzero(labels_of(table, place) == ENTAILMENT)]
    pairs = RawPairs(sentences_of(table, first, place), sentences_of(table, second, place))
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
    found = {}
    for split, table in tables.items():
        place = _place(source, split)
        scores = scores_of(table, place)
        if len(set(scores.tolist())) < 2:
            raise DataError(
                f"{source.setting}: split {split} of {source.name} has fewer than two different scores, "
                "which nothing correlates with"
            )
        first, second = (sentences_of(table, column, place) for column in columns[:2])
        found[split] = RawPairs(first, second, scores)
    return found


def _place(source: Source, split: str) -> Place:
    is_file = source.is_local and Path(source.name).is_file()
    return Place(source.setting, source.name if is_file else f"split {split} of {source.name}")


def _read(source: Source, splits: Sequence[str], columns: Sequence[str]) -> dict[str, pd.DataFrame]:
    """The rows of the splits, with their columns; their index says which row of the source each is."""
    if source.is_local and Path(source.name).is_file():
        tables = _split_by_column(_read_file(source.setting, source.files[0]), source, splits)
    elif not source.is_local:
        tables = _read_hub(source, splits)
    elif _files(Path(source.name))[0].suffix.lower() == ".csv":  # Links are followed in source.files.
        tables = _read_csv_directory(source, splits)
    else:
        tables = _read_parquet_directory(source, splits)
    for split, table in tables.items():
        check_columns(table, columns, _place(source, split))
    return tables


def _read_file(setting: str, path: Path) -> pd.DataFrame:
    return read_parquet(setting, path) if path.suffix.lower() == ".parquet" else read_csv(setting, path)


def _split_by_column(
    table: pd.DataFrame, source: Source, splits: Sequence[str]
) -> dict[str, pd.DataFrame]:
    """One file holds one split, or names in a column `split` which of several each row is in."""
    if len(splits) == 1:
        return {splits[0]: table}
    if "split" not in table.columns:
        raise DataError(
            f"{source.setting}: {source.name} has no column split, only {listed(table.columns)}; say "
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


def _read_csv_directory(source: Source, splits: Sequence[str]) -> dict[str, pd.DataFrame]:
    import pandas as pd

    directory = Path(source.name)
    files: dict[str, list[Path]] = {}
    for path in _files(directory):
        if split := _split_of(path.relative_to(directory)):
            files.setdefault(split, []).append(path)
    found = {}
    for split in splits:
        if split not in files:
            raise DataError(_lacks(split, files, source))
        tables = [read_csv(source.setting, path) for path in files[split]]
        for path, table in zip(files[split], tables, strict=True):
            if {*table.columns} != {*tables[0].columns}:
                raise DataError(
                    f"{source.setting}: {path} has the columns {listed(table.columns)}, but "
                    f"{files[split][0]} has {listed(tables[0].columns)}; give them the same columns"
                )
        found[split] = pd.concat(tables, ignore_index=True)
        if found[split].empty:
            raise DataError(_has_no_rows(split, source))
    return found


def _split_of(path: Path) -> str | None:
    """Which split a file belongs to: what its name begins with, else a folder that it is in."""
    begins = [split for split in _SPLITS if path.stem.lower().startswith(split)]
    folders = [folder.lower() for folder in reversed(path.parts[:-1])]
    return next(iter((*begins, *(folder for folder in folders if folder in _SPLITS))), None)


def _read_parquet_directory(source: Source, splits: Sequence[str]) -> dict[str, pd.DataFrame]:
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
            f"{'' if has_answered else _not_here(source.name)}"
        ) from error


def _not_here(name: str) -> str:
    """What there is under a name that was taken for a hub id, for whoever meant a path."""
    path = Path(name).absolute()
    if path.is_dir():
        return f"; the directory {path} has no {' or '.join(_SUFFIXES)} files"
    return f"; there is no such file or directory here, {path}, either (a relative path begins with ./)"


def _rows(found: Any, split: str, source: Source) -> pd.DataFrame:
    import pandas as pd

    if split not in found:
        raise DataError(_lacks(split, found, source))
    tables = [t.to_pandas() for t in found[split].with_format("arrow").iter(batch_size=_BATCH_ROWS)]
    if not tables:
        raise DataError(_has_no_rows(split, source))
    return pd.concat(tables, ignore_index=True)


def _lacks(split: str, found: Iterable[str], source: Source) -> str:
    return (
        f"{source.setting}: {source.name} has no split {split}, only {listed(found)}; its files "
        f"are told apart by their names, such as {split}.parquet or {split}.csv"
    )


def _has_no_rows(split: str, source: Source) -> str:
    return f"{source.setting}: split {split} of {source.name} has no rows"
