"""The paper's Tables 1a, 2 and 3 with a sweep's numbers beside them: `info` computes all that is shown.

`dashboards.table_formats` writes it.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML

from dashboards.head_results import HeadResult, settings_of
from dashboards.sweep_results import SelectedPoint, SweepRun
from dashboards.table_notes import (
    Paper,
    choice_note,
    differences,
    head_notes,
    paper_notes,
    sweep_notes,
    task_notes,
    truncation_notes,
)

_PAPER_FILE = Path(__file__).with_name("paper_results.yaml")
_TABLES = {
    "table_1a": ("Table 1a", "baseline and monotonic head", ("none", "monotonic")),
    "table_2": ("Table 2", "the three heads", ("none", "mlp", "monotonic")),
    "table_3": ("Table 3", "embeddings cut to their first components", ("none", "mlp", "monotonic")),
}
_NO_VALUE = "-"


class Measure(NamedTuple):
    """One row of a table.

    Attributes:
        metric: its name among the point's metrics, or the column of its truncations.
        label: what the row is called.
        unit: of the numbers shown.
        paper: its name in paper_results.yaml; None where the paper has no such number.
        split: whose queries.
    """

    metric: str
    label: str
    unit: str
    paper: str | None
    split: str = "test"


_SCALES = {"%": 100.0, "components": 1.0, "10^-3": 1000.0}
_MEASURES = (
    Measure("knn_accuracy", "5-NN accuracy, %", "%", "knn_accuracy"),
    Measure("knn_accuracy", "the same on validation, %", "%", None, split="validation"),
    Measure("recall_at_1", "Recall@1, %", "%", "recall_at_1"),
    Measure("recall_at_5", "Recall@5, %", "%", "recall_at_5"),
    Measure("d_eff", "d_eff", "components", "d_eff"),
    Measure("reconstruction_error", "reconstruction error, 10^-3", "10^-3", "reconstruction_error"),
)
_TRUNCATION_MEASURES = (
    Measure("knn_accuracy", "5-NN accuracy, %", "%", "knn_accuracy"),
    Measure("recall_dot_at_1", "Recall@1, dot, %", "%", "recall_at_1"),
    Measure("recall_cosine_at_1", "Recall@1, cosine, %", "%", None),
    Measure("recall_euclidean_at_1", "Recall@1, Euclidean, %", "%", None),
    Measure("recall_dot_at_5", "Recall@5, dot, %", "%", "recall_at_5"),
    Measure("recall_cosine_at_5", "Recall@5, cosine, %", "%", None),
    Measure("recall_euclidean_at_5", "Recall@5, Euclidean, %", "%", None),
    Measure("reconstruction_error", "reconstr. error, 10^-3", "10^-3", "reconstruction_error"),
)


class Value(NamedTuple):
    """One number in long form, in `unit`: a row of a CSV file.

    Attributes:
        source: ours or paper; the paper's have no seed, trial, run and epoch.
        components: that embeddings were cut down to; None where they were not.
    """

    dataset: str
    head: str
    components: int | None
    metric: str
    split: str
    unit: str
    source: str
    seed: str
    trial: str
    run_id: str
    epoch: int | None
    value: float


@dataclass(frozen=True)
class TableInfo:
    """One table.

    Attributes:
        key: table_1a, table_2 or table_3.
        title: what it is called.
        labels: names of the first columns.
        heads: head kinds, a column each, or two where the paper has numbers.
        has_paper: whether it does.
        sections: groups of rows; a row has the labels' texts, then the cells'.
        notes: what belongs to this table only.
        values: every number of it.
    """

    key: str
    title: str
    labels: tuple[str, ...]
    heads: tuple[str, ...]
    has_paper: bool
    sections: tuple[tuple[tuple[str, ...], ...], ...]
    notes: tuple[str, ...]
    values: tuple[Value, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        return ("ours", "paper") if self.has_paper else ("ours",)


@dataclass(frozen=True)
class TablesInfo:
    """Everything that is shown: the tables, then notes about all of them."""

    title: str
    tables: tuple[TableInfo, ...]
    notes: tuple[str, ...]


def read_paper() -> Paper:
    """The paper's numbers."""
    return YAML(typ="safe", pure=True).load(_PAPER_FILE)


def info(sweep: SweepRun, results: Mapping[str, HeadResult], paper: Paper) -> TablesInfo:
    """Computes everything that is shown."""
    found = differences(results)
    differing = {head for heads in found.values() for head in heads}
    tables = tuple(_table(key, results, paper, differing) for key in _TABLES)
    has_paper = any(table.has_paper for table in tables)
    notes = [
        *sweep_notes(sweep),
        *task_notes(sweep, results),
        "Each trial is shown at the epoch with its best 5-NN accuracy on the validation set, of the "
        "epochs that had a final evaluation (of equals the earliest). Test metrics have no say in it.",
        "Cells are means ± sample standard deviations over seeds; of one seed, its value.",
        *paper_notes(found, len(results), paper if has_paper else None, sweep.data_order),
        choice_note(sweep, results),
        *(note for head, result in results.items() for note in head_notes(head, result, sweep)),
    ]
    return TablesInfo(f"Tables of the sweep {sweep.name}", tables, tuple(notes))


def _table(key: str, results: Mapping[str, HeadResult], paper: Paper, differing: set[str]) -> TableInfo:
    number, what, heads_of_paper = _TABLES[key]
    heads = tuple(head for head in heads_of_paper if head in results)
    dataset = settings_of(results)["dataset"]
    printed = paper[key].get(dataset)
    values = [value for head in heads for value in _values(key, head, results[head], printed)]
    sizes = sorted({v.components or 0 for v in values if v.source == "ours"}, reverse=True)
    sections = [_rows(key, heads, size or None, results, values, bool(printed)) for size in sizes]
    absent = [head for head in heads_of_paper if head not in results]
    notes = [f"No trial of the sweep has the head {head}." for head in absent]
    if not printed:
        notes.append(f"The paper has no {number} for {dataset}, so it has no columns here.")
    if key == "table_3":
        notes += truncation_notes(heads, results, printed)
    return TableInfo(
        key=key,
        title=f"{number}: {what}, {dataset}"
        + (" (not the paper's setting, see the notes)" if printed and differing & set(heads) else ""),
        labels=("components", "test metric") if key == "table_3" else ("test metric",),
        heads=heads,
        has_paper=bool(printed),
        sections=tuple(sections),
        notes=tuple(notes),
        values=tuple(values),
    )


def _values(key: str, head: str, result: HeadResult, printed: Mapping[Any, Any] | None) -> list[Value]:
    """All numbers of one head in one table, ours first."""
    dataset = result.configuration.settings["dataset"]
    values = []
    for point in result.points:
        for components, measure, number in _numbers(key, point):
            values.append(
                Value(
                    dataset, head, components, measure.metric, measure.split, measure.unit, "ours",
                    point.trial.seed, point.trial.name, point.trial.run_id, point.epoch,
                    _SCALES[measure.unit] * number,
                )
            )  # fmt: skip
    by_size = (printed or {}) if key == "table_3" else {None: printed or {}}
    for components, by_head in by_size.items():
        for measure in _measures(key):
            number = by_head.get(head, {}).get(measure.paper)
            if number is not None:
                place = (dataset, head, components, measure.metric, measure.split, measure.unit)
                values.append(Value(*place, "paper", "", "", "", None, float(number)))
    return values


def _measures(key: str) -> tuple[Measure, ...]:
    return _TRUNCATION_MEASURES if key == "table_3" else _MEASURES


def _numbers(key: str, point: SelectedPoint) -> list[tuple[int | None, Measure, float]]:
    """What a point has for a table: number of components, measure, number as tracked."""
    found: list[tuple[int | None, Measure, float]] = []
    if key != "table_3":
        for measure in _MEASURES:
            numbers = point.validation if measure.split == "validation" else point.test
            if measure.metric in numbers:
                found.append((None, measure, numbers[measure.metric]))
    elif point.truncation is not None:
        for row in point.truncation.to_dict("records"):
            found += [(int(row["components"]), m, float(row[m.metric])) for m in _TRUNCATION_MEASURES]
    return found


def _rows(
    key: str,
    heads: Sequence[str],
    components: int | None,
    results: Mapping[str, HeadResult],
    values: Sequence[Value],
    has_paper: bool,
) -> tuple[tuple[str, ...], ...]:
    """The rows for one number of components, as text."""
    rows = []
    if components is None:
        seeds = [
            (_seeds_cell(results[head]), "1") if has_paper else (_seeds_cell(results[head]),)
            for head in heads
        ]
        rows.append(("seeds", *(cell for pair in seeds for cell in pair)))
    for measure in _measures(key):
        cells = []
        for head in heads:
            place = (head, components, measure.metric, measure.split)
            here = [v for v in values if (v.head, v.components, v.metric, v.split) == place]
            ours = [v.value for v in here if v.source == "ours"]
            cells.append(_ours_cell(ours, measure, len(results[head].points)))
            if has_paper:
                theirs = [v.value for v in here if v.source == "paper"]
                cells.append(_number(theirs[0], measure) if theirs else _NO_VALUE)
        labels = (measure.label,) if components is None else (str(components), measure.label)
        rows.append((*labels, *cells))
    return tuple(rows)


def _seeds_cell(result: HeadResult) -> str:
    num_seeds = len({trial.seed for trial in result.configuration.trials})
    num_shown = len(result.points)
    return str(num_shown) if num_shown == num_seeds else f"{num_shown} of {num_seeds}"


def _ours_cell(numbers: Sequence[float], measure: Measure, num_points: int) -> str:
    if not numbers:
        return _NO_VALUE
    if len(numbers) == 1:
        text = _number(numbers[0], measure)
    else:
        decimals = 1 if measure.unit == "components" else 2
        mean, deviation = statistics.mean(numbers), statistics.stdev(numbers)
        text = f"{mean:.{decimals}f} ± {deviation:.{decimals}f}"
    return text if len(numbers) == num_points else f"{text} (n={len(numbers)})"


def _number(number: float, measure: Measure) -> str:
    return f"{number:.0f}" if measure.unit == "components" else f"{number:.2f}"
