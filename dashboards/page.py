"""A page of figures, tables and words as one HTML file; what is on it is made elsewhere.

A page needs nothing from the network. The same content as data (`to_state`) is what a page that is
served asks for again and again while its sweep runs.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, Literal, NamedTuple

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

Scripts = Literal["inline", "served"]
"""Whether plotly.js is in the file, or beside it on the server that serves it (3.5 MiB a reload)."""
PLOTLY_PATH = "/plotly.min.js"
_SCRIPTS = ("figures.js", "sections.js", "trial.js", "page.js")


class Section(NamedTuple):
    """A part of a page.

    Attributes:
        key: no other section of the page has it.
        title: a heading; empty for none.
        html: what stands before the figure, as HTML that is safe: whatever came from outside escaped.
        figure: drawn by plotly.js; None for none.
        caption: a text below; plain.
        height: of the figure, in CSS pixels.
    """

    key: str
    title: str
    html: str = ""
    figure: go.Figure | None = None
    caption: str = ""
    height: int = 380


class Page(NamedTuple):
    """What a page shows.

    Attributes:
        title: plain text.
        summary: HTML below the title.
        sections: in their order.
        trials: what a click on a point shows of its trial; empty where points are no trials.
        links: addresses for the page outside a frame, of which any may be absent: "index", the list of
            all sweeps, "sweep", the page of the sweep, and "run", the run of MLflow's that the page is
            about, make the line above the title; "runs" is that of any trial's run, with {run} for its
            id, and "points" what a run's id, / and an epoch are put behind for the page of a point.
        state_path: where a served page asks for its newest state, and with /trials behind it for its
            newest trials; empty for one that does not change.
    """

    title: str
    summary: str
    sections: Sequence[Section]
    trials: Mapping[str, Any] = {}
    links: Mapping[str, str] = {}
    state_path: str = ""


def to_state(page: Page) -> str:
    """The content of the page as JSON, without what would end a script element."""
    state = {
        "title": page.title,
        "summary": page.summary,
        "sections": [
            {
                "key": section.key,
                "title": section.title,
                "html": section.html,
                "caption": section.caption,
                "height": section.height,
                "has_figure": section.figure is not None,
            }
            for section in page.sections
        ],
        "links": page.links,
    }
    figures = ",".join(
        f"{json.dumps(section.key)}:{section.figure.to_json()}"
        for section in page.sections
        if section.figure is not None
    )
    text = json.dumps(state, separators=(",", ":"), allow_nan=False)
    return _in_script(f'{text[:-1]},"figures":{{{figures}}}}}')


def to_trials(page: Page) -> str:
    """What clicks on points show, as JSON of the same kind: read at the first click."""
    return _in_script(json.dumps(page.trials, separators=(",", ":"), allow_nan=False))


def to_html(page: Page, scripts: Scripts = "inline") -> str:
    """The page as a file."""
    plotly = (
        f"<script>{get_plotlyjs()}</script>"
        if scripts == "inline"
        else f'<script src="{PLOTLY_PATH}"></script>'
    )
    return _PAGE.format(
        title=html.escape(page.title),
        style=asset("page.css"),
        state_path=html.escape(page.state_path),
        state=to_state(page),
        trials=to_trials(page),
        plotly=plotly,
        script=_script(),
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[bool] = ()) -> str:
    """A table that scrolls sideways where it is too wide.

    Args:
        head: the columns' names, plain text.
        rows: cells as plain text.
        numeric: which columns are set flush right; none where it is empty.
    """
    classes = [' class="number"' if is_number else "" for is_number in numeric] or [""] * len(head)
    names = "".join(f"<th{c}>{html.escape(name)}</th>" for name, c in zip(head, classes, strict=True))
    body = "".join(
        "<tr>"
        + "".join(f"<td{c}>{html.escape(cell)}</td>" for cell, c in zip(row, classes, strict=True))
        + "</tr>"
        for row in rows
    )
    return (
        '<div class="scroll" tabindex="0"><table>'
        f"<thead><tr>{names}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _in_script(json_text: str) -> str:
    return json_text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _script() -> str:
    """The parts of the page's script in one scope; the last one begins."""
    parts = "\n".join(asset(name) for name in _SCRIPTS)
    return f'"use strict";\n(() => {{\n{parts}}})();'


def asset(name: str) -> str:
    """A file that pages bring along."""
    return resources.files("dashboards").joinpath("assets", name).read_text("utf-8")


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><link rel="icon" href="data:,">
<style>{style}</style></head>
<body data-state="{state_path}">
<main id="page"><noscript>This page draws its figures with JavaScript.</noscript></main>
<aside id="trial" hidden></aside>
<script type="application/json" id="state">{state}</script>
<script type="application/json" id="trials">{trials}</script>
{plotly}
<script>{script}</script>
</body></html>
"""
