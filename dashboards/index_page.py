"""The list of all sweeps of a tracking server, as HTML in which names are escaped."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from urllib.parse import quote

from dashboards.figures.axes import number
from dashboards.figures.style import STATUS_COLOURS
from dashboards.page import asset
from dashboards.tracked_runs import SweepSummary
from orchestrator.terminal import format_duration

_REFRESH_S = 10
_COLUMNS = (
    "sweep",
    "status",
    "started (UTC)",
    "took",
    "objectives",
    "trials",
    "front",
    "hypervolume",
    "",
)


def index_page(uri: str, sweeps: Sequence[SweepSummary], run_address: Callable[[str, str], str]) -> str:
    """The page, which reloads itself.

    Args:
        uri: of the tracking server.
        sweeps: in the order in which they are shown.
        run_address: the ids of an experiment and of its run to where MLflow shows the run.
    """
    head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
    body = "".join(_row(sweep, run_address(sweep.experiment_id, sweep.run_id)) for sweep in sweeps)
    found = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if sweeps else _NONE
    return _PAGE.format(refresh=_REFRESH_S, style=asset("page.css"), uri=html.escape(uri), sweeps=found)


def _row(sweep: SweepSummary, address: str) -> str:
    colour = STATUS_COLOURS.get(sweep.status, STATUS_COLOURS["interrupted"])
    cells = [
        f'<a href="/sweeps/{quote(sweep.run_id)}">{html.escape(sweep.name)}</a>',
        f'<span class="badge" style="color:{colour}" title="{html.escape(sweep.reason)}">'
        f"{html.escape(sweep.status)}</span>",
        datetime.fromtimestamp(sweep.started, UTC).strftime("%Y-%m-%d %H:%M"),
        "" if sweep.ended is None else format_duration(sweep.ended - sweep.started),
        html.escape(sweep.objectives),
        "" if sweep.num_planned is None else str(sweep.num_planned),
        "" if sweep.front_size is None else str(sweep.front_size),
        "" if sweep.hypervolume is None else number(sweep.hypervolume),
        f'<a href="{html.escape(address)}">in MLflow</a>',
    ]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def error_page(text: str) -> str:
    """What stands in the place of a page that cannot be made."""
    return _ERROR.format(style=asset("page.css"), text=html.escape(text))


_NONE = (
    "<p>No sweep yet. Run one: <code>python -m orchestrator.sweep search_spaces/digits.yaml</code></p>"
)
_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
"""
_PAGE = (
    _HEAD
    + """<meta http-equiv="refresh" content="{refresh}"><title>Sweeps</title>
<style>{style}</style></head><body><main>
<h1>Sweeps</h1>
<p class="soft">tracked at {uri}</p>
<div class="scroll" style="max-height:none">{sweeps}</div>
</main></body></html>
"""
)
_ERROR = (
    _HEAD
    + """<title>No page</title><style>{style}</style></head><body><main>
<h1>This page cannot be shown</h1><p>{text}</p><p><a href="/">all sweeps</a></p>
</main></body></html>
"""
)
