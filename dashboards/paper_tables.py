"""The paper's tables with a sweep's numbers beside them, 1a, 2 and 3 of images, 1b and 3 of pairs of
sentences: `info` computes all that is shown.

`dashboards.table_formats` writes it.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML

from dashboards.head_results import HeadResult, settings_of, shown_task
from dashboards.sweep_results import SelectedPoint, SweepRun
from dashboards.table_notes import (
    Paper,
    choice_note,
    differences,
    head_notes,
    paper_notes,
    scored_on,
    selection_note,
    sweep_notes,
    task_notes,
    truncation_notes,
    untouched_notes,
)
from dashboards.table_plans import OF_UNTOUCHED, PLANS, SCALES, Measure, Plan
from trainables.reports import TRUNCATIONS

_PAPER_FILE = Path(__file__).with_name("paper_results.yaml")
_NO_VALUE = "-"


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
        key: table_1a, table_1b, table_2 or table_3.
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
    plans = PLANS[shown_task(results)]
    tables = tuple(_table(key, plan, results, paper, differing) for key, plan in plans.items())
    has_paper = any(table.has_paper for table in tables)
    notes = [
        *sweep_notes(sweep),
        *task_notes(sweep, results),
        selection_note(shown_task(results)),
        "Cells are means ± sample standard deviations over seeds; of one seed, its value.",
        *paper_notes(found, results, paper if has_paper else None, sweep.data_order),
        choice_note(sweep, results),
        *(note for head, result in results.items() for note in head_notes(head, result, sweep)),
    ]
    return TablesInfo(f"Tables of the sweep {sweep.name}", tables, tuple(notes))


def _table(
    key: str, plan: Plan, results: Mapping[str, HeadResult], paper: Paper, differing: set[str]
) -> TableInfo:
    heads = tuple(head for head in plan.heads if head in results)
    dataset = settings_of(results)["dataset"]
    printed = paper[key].get(dataset)
    values = [value for head in heads for value in _values(plan, head, results[head], printed)]
    sizes = sorted({v.components or 0 for v in values if v.source == "ours"}, reverse=True)
    sections = [_rows(plan, heads, size or None, results, values, bool(printed)) for size in sizes]
    absent = [head for head in plan.heads if head not in results and head not in plan.optional]
    notes = [f"No trial of the sweep has the head {head}." for head in absent]
    if not printed:
        notes.append(f"The paper has no {plan.number} for {dataset}, so it has no columns here.")
    if plan.is_cut:
        notes += truncation_notes(heads, results, printed)
    elif shown_task(results) == "similarity":
        notes += untouched_notes()
    return TableInfo(
        key=key,
        title=f"{plan.number}: {plan.what}, {dataset}"
        + (" (not the paper's setting, see the notes)" if printed and differing & set(heads) else ""),
        labels=("components", "test metric") if plan.is_cut else ("test metric",),
        heads=heads,
        has_paper=bool(printed),
        sections=tuple(sections),
        notes=tuple(notes),
        values=tuple(values),
    )


def _values(plan: Plan, head: str, result: HeadResult, printed: Mapping[Any, Any] | None) -> list[Value]:
    """All numbers of one head in one table, ours first."""
    dataset = result.configuration.settings["dataset"]
    values = []
    for point in result.points:
        for components, measure, number in _numbers(plan, point):
            values.append(
                Value(
                    dataset, head, components, measure.metric, measure.split, measure.unit, "ours",
                    point.trial.seed, point.trial.name, point.trial.run_id, point.epoch,
                    SCALES[measure.unit] * number,
                )
            )  # fmt: skip
    by_size = (printed or {}) if plan.is_cut else {None: printed or {}}
    for components, by_row in by_size.items():
        for measure in plan.measures:
            number = by_row.get(measure.paper_row or head, {}).get(measure.paper)
            if number is not None:
                place = (dataset, head, components, measure.metric, measure.split, measure.unit)
                values.append(Value(*place, "paper", "", "", "", None, float(number)))
    return values


def _numbers(plan: Plan, point: SelectedPoint) -> list[tuple[int | None, Measure, float]]:
    """What a point has for a table: number of components, measure, number as tracked."""
    if plan.is_cut:
        return _numbers_cut(plan, point)
    found: list[tuple[int | None, Measure, float]] = []
    for measure in plan.measures:
        numbers = point.validation if measure.split == "validation" else point.test
        if measure.metric in numbers:
            found.append((None, measure, numbers[measure.metric]))
    return found


def _numbers_cut(plan: Plan, point: SelectedPoint) -> list[tuple[int | None, Measure, float]]:
    """The same of embeddings cut to the sizes that all trials have: not each to its own d_eff."""
    found: list[tuple[int | None, Measure, float]] = []
    for prefix, table in (("", point.truncation), (OF_UNTOUCHED, point.untouched)):
        for row in [] if table is None else table.to_dict("records"):
            found += [
                (int(row["components"]), measure, float(row[measure.metric.removeprefix(prefix)]))
                for measure in plan.measures
                if measure.metric.startswith(OF_UNTOUCHED) == bool(prefix)
                and int(row["components"]) in TRUNCATIONS
            ]
    return found


def _rows(
    plan: Plan,
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
    pairs = scored_on(settings_of(results))
    for measure in plan.measures:
        cells = []
        for head in heads:
            place = (head, components, measure.metric, measure.split)
            here = [v for v in values if (v.head, v.components, v.metric, v.split) == place]
            ours = [v.value for v in here if v.source == "ours"]
            cells.append(_ours_cell(ours, measure, len(results[head].points)))
            if has_paper:
                theirs = [v.value for v in here if v.source == "paper"]
                cells.append(_number(theirs[0], measure) if theirs else _NO_VALUE)
        label = measure.label.format(pairs=f"{pairs} " if pairs else "")
        labels = (label,) if components is None else (str(components), label)
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
