"""A measured figure, and how a list of them is printed."""

from __future__ import annotations

from typing import NamedTuple

from rich.console import Console
from rich.table import Table


class Row(NamedTuple):
    """One figure: what was measured, the value with its unit, what it is to be held against."""

    name: str
    value: str
    note: str


def show(title: str, rows: list[Row]) -> None:
    """Prints figures as a table."""
    table = Table(title=title, box=None, title_justify="left", title_style="bold", pad_edge=False)
    for column in ("figure", "value", "note"):
        table.add_column(column, justify="right" if column == "value" else "left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
