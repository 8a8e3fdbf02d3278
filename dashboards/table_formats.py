"""Writes the tables of `dashboards.paper_tables`: on the terminal, as Markdown, as a page, as CSV."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dashboards.paper_tables import TableInfo, TablesInfo, Value


def render(drawn: TablesInfo) -> dict[str, bytes]:
    """The files: name to content."""
    return {
        "tables.md": to_markdown(drawn).encode(),
        "tables.html": to_html(drawn).encode(),
        **{f"{table.key}.csv": to_csv(table).encode() for table in drawn.tables},
    }


def to_csv(table: TableInfo) -> str:
    """Every number of a table, one a line."""
    values = pd.DataFrame(list(table.values), columns=list(Value._fields))
    whole = {"components": "Int64", "epoch": "Int64"}
    return values.astype(whole).to_csv(index=False)


def show(drawn: TablesInfo, console: Console) -> None:
    """Prints the tables and their notes."""
    console.print(Text(drawn.title, style="bold"))
    for table in drawn.tables:
        console.print("", Text(table.title, style="bold"), sep="\n")
        if table.sections:
            console.print(_terminal_table(table))
        if table.notes:
            console.print(_terminal_notes(table.notes))
    console.print("", _terminal_notes(drawn.notes), sep="\n")


def _terminal_table(table: TableInfo) -> Table:
    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for label in table.labels:
        drawn.add_column(Text(f"\n{label}"))
    for head in table.heads:
        for place, source in enumerate(table.sources):
            drawn.add_column(Text(f"{'' if place else head}\n{source}"), justify="right")
    for section in table.sections:
        for row in section:
            drawn.add_row(*map(Text, row))
        drawn.add_section()
    return drawn


def _terminal_notes(notes: Sequence[str]) -> Table:
    drawn = Table.grid(padding=(0, 1, 0, 0))
    for note in notes:
        drawn.add_row("-", Text(note))
    return drawn


def to_markdown(drawn: TablesInfo) -> str:
    """GitHub Markdown."""
    lines = [f"# {_md(drawn.title)}"]
    for table in drawn.tables:
        lines += ["", f"## {_md(table.title)}", ""]
        if table.sections:
            names = [f"{head}, {source}" for head in table.heads for source in table.sources]
            rules = ["---"] * len(table.labels) + ["---:"] * len(names)
            rows = [row for section in table.sections for row in section]
            lines += [
                _md_row([*table.labels, *names]),
                "|" + "|".join(rules) + "|",
                *map(_md_row, rows),
                "",
            ]
        lines += [f"- {_md(note)}" for note in table.notes]
    lines += ["", "## Notes", "", *(f"- {_md(note)}" for note in drawn.notes)]
    return "\n".join(lines) + "\n"


def _md_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_md, cells))} |"


def _md(text: str) -> str:
    """The text as itself: neither markup nor HTML nor the end of a cell."""
    escaped = re.sub(r"([\\`*|\[\]])", r"\\\1", " ".join(text.split()))
    return html.escape(escaped, quote=False)


def to_html(drawn: TablesInfo) -> str:
    """A page that needs nothing else, light or dark as its reader is."""
    tables = "".join(
        f"<h2>{html.escape(table.title)}</h2>{_html_table(table)}{_html_notes(table.notes)}"
        for table in drawn.tables
    )
    title = html.escape(drawn.title)
    return _PAGE.format(title=title, tables=tables, notes=_html_notes(drawn.notes))


def _html_table(table: TableInfo) -> str:
    if not table.sections:
        return ""
    num_labels, num_sources = len(table.labels), len(table.sources)
    labels = "".join(
        f'<th rowspan="2" class="label">{html.escape(label)}</th>' for label in table.labels
    )
    heads = "".join(f'<th colspan="{num_sources}">{html.escape(head)}</th>' for head in table.heads)
    sources = "".join(f'<th class="{name}">{name}</th>' for _ in table.heads for name in table.sources)
    classes = ["label"] * num_labels + list(table.sources) * len(table.heads)
    bodies = "".join(
        "<tbody>" + "".join(_html_row(row, classes) for row in section) + "</tbody>"
        for section in table.sections
    )
    head = f"<thead><tr>{labels}{heads}</tr><tr>{sources}</tr></thead>"
    return f'<div class="scroll" tabindex="0"><table>{head}{bodies}</table></div>'


def _html_row(row: Sequence[str], classes: Sequence[str]) -> str:
    cells = zip(row, classes, strict=True)
    return (
        "<tr>"
        + "".join(f'<td class="{name}">{html.escape(text)}</td>' for text, name in cells)
        + "</tr>"
    )


def _html_notes(notes: Sequence[str]) -> str:
    items = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    return f"<ul>{items}</ul>" if items else ""


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --ink: #222; --soft: #5a5a5a; --line: #d5d5d5; --paper: #fff; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e6e6e6; --soft: #a8a8a8; --line: #454545; --paper: #1b1b1d; }}
}}
body {{ font: 14px/1.45 system-ui, sans-serif; margin: 12px; }}
body {{ color: var(--ink); background: var(--paper); }}
h1 {{ font-size: 17px; overflow-wrap: anywhere; }}
h2 {{ font-size: 15px; margin: 20px 0 6px; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; }}
th, td {{ padding: 3px 9px; text-align: right; white-space: nowrap; }}
th.label, td.label {{ text-align: left; vertical-align: bottom; }}
thead tr:first-child th[colspan] {{ text-align: center; }}
thead, tbody {{ border-bottom: 1px solid var(--line); }}
.paper {{ color: var(--soft); }}
ul {{ color: var(--soft); max-width: 75ch; padding-left: 18px; overflow-wrap: anywhere; }}
</style></head><body>
<h1>{title}</h1>
{tables}
<h2>Notes</h2>
{notes}
</body></html>
"""
