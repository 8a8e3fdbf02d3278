"""Tables of pairs of sentences, read from files as they are and checked row by row, so that a wrong one
is refused here and not noticed in a result.

Rows are counted from 0, without the header and blank lines.
"""

from __future__ import annotations

import csv
import math
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trainables.errors import DataError
from trainables.hub import brief

if TYPE_CHECKING:
    import pandas as pd

ENTAILMENT = 0
_SNLI_LABELS = (-1, 0, 1, 2)
"""No agreement among its annotators, entailment, neutral, contradiction."""


class Place(NamedTuple):
    """Rows of a source, for messages."""

    setting: str
    name: str

    def row(self, number: int) -> str:
        """One of them, from 0."""
        return f"{self.setting}: row {number} of {self.name}"

    def __str__(self) -> str:
        return f"{self.setting}: {self.name}"


def read_parquet(setting: str, path: Path) -> pd.DataFrame:
    """The rows of one file.

    Raises:
        DataError: it is damaged.
    """
    import pandas as pd

    try:
        return pd.read_parquet(path).reset_index(drop=True)
    except Exception as error:  # What pandas and pyarrow raise shares no base.
        raise DataError(f"{setting}: {path} cannot be read as parquet: {brief(error)}") from error


def read_csv(setting: str, path: Path) -> pd.DataFrame:
    """The rows of one file, all as text: a sentence may be "NA", or "1984".

    Raises:
        DataError: it is no CSV in UTF-8, or a row has more or fewer fields than the header.
    """
    import pandas as pd

    rows: list[list[str]] = []
    line = 0
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            for row in reader:
                rows += [row] if row else []
                line = reader.line_num
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{setting}: {path} cannot be read as csv in UTF-8, after line {line}: {brief(error)}"
        ) from error
    if not rows:
        raise DataError(f"{setting}: {path} cannot be read as csv in UTF-8: it is empty")
    header = rows.pop(0)
    if twice := [name for name in dict.fromkeys(header) if name and header.count(name) > 1]:
        raise DataError(f"{setting}: {path} has more than one column {' and '.join(twice)}; rename one")
    for number, row in enumerate(rows):
        if len(row) != len(header):
            raise DataError(
                f"{setting}: row {number} of {path}: it has {len(row)} field(s), but the header has "
                f"{len(header)}, {listed(header)}; put a sentence with a comma in it between double "
                "quotes, and no comma at the end of a row"
            )
    return pd.DataFrame(rows, columns=pd.Index(header, dtype=object), dtype=object)


def check_columns(table: pd.DataFrame, columns: Sequence[str], place: Place) -> None:
    """Whether a table has them.

    Raises:
        DataError: it lacks one.
    """
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise DataError(
            f"{place} has no column {' and no column '.join(missing)}, only "
            f"{listed(table.columns)}; name its columns {', '.join(columns)}"
        )


def scores_of(table: pd.DataFrame, place: Place) -> np.ndarray:
    """The column `score`, from 0 to 1.

    Raises:
        DataError: a score is outside, or not a number.
    """
    scores = _numbers(table, "score", place)
    outside = np.flatnonzero(~((scores >= 0) & (scores <= 1)))
    if outside.size:
        advice = (
            "subtract their smallest and then divide them by their largest, or leave out the rows whose "
            "score below 0 stands for none"
            if (scores < 0).any()
            else "divide them by their largest"
        )
        raise DataError(
            f"{place.row(table.index[outside[0]])} has score {scores[outside[0]]:g}; scores are from 0 "
            f"(unrelated) to 1 (the same), {advice}"
        )
    return scores


def labels_of(table: pd.DataFrame, place: Place) -> np.ndarray:
    """The column `label` of SNLI.

    Raises:
        DataError: a label is none of SNLI's.
    """
    labels = _numbers(table, "label", place)
    outside = np.flatnonzero(~np.isin(labels, _SNLI_LABELS))
    if outside.size:
        row = table.index[outside[0]]
        raise DataError(
            f"{place.row(row)} has label {labels[outside[0]]:g}; SNLI has {ENTAILMENT} for "
            "entailment, 1 for neutral, 2 for contradiction and -1 for none; is it another dataset?"
        )
    return labels


def _numbers(table: pd.DataFrame, column: str, place: Place) -> np.ndarray:
    numbers = []
    for row, value in zip(table.index, table[column].tolist(), strict=True):
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            text = str(value)[:40]
            raise DataError(f"{place.row(row)}: {column} is {text!r}, not a number")
        numbers.append(number)
    return np.array(numbers, np.float64)


def sentences_of(table: pd.DataFrame, column: str, place: Place) -> list[str]:
    """A column of sentences.

    Raises:
        DataError: one of them is missing, has nothing to be seen, or is not text.
    """
    import pandas as pd

    values = table[column].tolist()
    for row, value in zip(table.index, values, strict=True):
        if isinstance(value, str) and any(map(_is_visible, value)):
            continue
        is_missing = isinstance(value, str) or pd.isna(value) is True
        what = "is empty" if is_missing else f"holds {str(value)[:40]}, not text"
        raise DataError(f"{place.row(row)}: {column} {what}; give it a sentence, or leave the row out")
    return values


def _is_visible(character: str) -> bool:
    """Whether it is no separator, control or format character, such as a zero-width space."""
    return unicodedata.category(character)[0] not in "ZC"


def listed(names: Iterable[object]) -> str:
    """Names for a message."""
    return ", ".join(map(str, names)) or "none"
