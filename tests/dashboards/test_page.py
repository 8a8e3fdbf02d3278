from __future__ import annotations

import json
import math
from html.parser import HTMLParser

import numpy as np
import plotly.graph_objects as go
import pytest
from front_tables import HOSTILE, Tags
from hypothesis import given
from hypothesis import strategies as st

from dashboards.page import PLOTLY_PATH, Page, Section, table, to_html, to_state, to_trials

NASTY = f"{HOSTILE}\u2028\u2029<!--<script>]]>&lt;é"


class Scripts(HTMLParser):
    """The attributes and the text of each script element, as a browser finds their ends."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[dict[str, str | None], str]] = []
        self._is_open = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._is_open = tag == "script"
        if self._is_open:
            self.found.append((dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        if self._is_open:
            attributes, text = self.found[-1]
            self.found[-1] = attributes, text + data

    def handle_endtag(self, tag: str) -> None:
        self._is_open = False


def page_of(text: str) -> Page:
    """A page with a text wherever there can be one."""
    figure = go.Figure(
        [go.Scatter(x=[1.0], y=[2.0], name=text, hovertext=[text], customdata=[[text, 1]])],
        layout={"title": {"text": text}},
    )
    section = Section(text, text, f"<p>{text}</p>", figure, text)
    return Page(text, text, [section], {"items": {text: {"reason": text}}}, {"runs": text})


@pytest.mark.parametrize("text", [NASTY, "</SCRIPT >", "{state} %s {0}"])
def test_no_text_ends_its_script_element(text: str) -> None:
    scripts = Scripts(to_html(page_of(text), "served")).found
    assert [attributes.get("id") for attributes, _ in scripts] == ["state", "trials", None, None]
    state, trials = (json.loads(content) for _, content in scripts[:2])
    assert state["title"] == state["sections"][0]["html"][3:-4] == text
    assert state["figures"][text]["data"][0]["hovertext"] == [text]
    assert trials["items"][text]["reason"] == text and state["links"] == {"runs": text}


@given(st.text())
def test_any_text_comes_back_and_none_is_markup(text: str) -> None:
    page = Page(text, text, [Section("key", text)], {"items": text})
    for content in (to_state(page), to_trials(page)):
        assert "<" not in content and "\u2028" not in content and "\u2029" not in content
    assert json.loads(to_state(page))["summary"] == json.loads(to_trials(page))["items"] == text


def test_what_is_no_number_is_no_json() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_trials(Page("t", "", [], {"curves": [math.nan]}))


def test_figures_bring_no_nan_into_the_json() -> None:
    values = [1.0, math.nan, math.inf, -math.inf, None]
    figure = go.Figure([go.Scatter(x=values, y=np.array([1.0, math.nan]), customdata=[values])])
    state = to_state(Page("t", "", [Section("key", "", figure=figure)]))

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    (trace,) = json.loads(state, parse_constant=refuse)["figures"]["key"]["data"]
    assert trace["x"] == [1.0, None, None, None, None]


def test_a_state_has_the_sections_in_order_and_their_figures() -> None:
    figure = go.Figure([go.Scatter(x=[1.0])])
    page = Page("t", "s", [Section("b", "B", figure=figure, height=200), Section("a", "A", "<p>")])
    state = json.loads(to_state(page))
    assert [section["key"] for section in state["sections"]] == ["b", "a"]
    assert [section["has_figure"] for section in state["sections"]] == [True, False]
    assert state["sections"][0]["height"] == 200 and list(state["figures"]) == ["b"]


def test_a_file_loads_nothing_from_elsewhere() -> None:
    text = to_html(page_of("plain"))
    tags = Tags(text).tags
    addresses = [
        value for _, attributes in tags for name, value in attributes.items()
        if name in ("src", "href", "srcset", "data") and not str(value).startswith("data:")
    ]  # fmt: skip
    assert addresses == []
    assert [tag for tag, _ in tags if tag in ("iframe", "object", "img", "base")] == []
    assert ("meta", {"charset": "utf-8"}) in tags
    assert "@import" not in text.split("<script")[0] and "url(" not in text.split("<script")[0]


def test_a_file_brings_its_own_plotly() -> None:
    scripts = Scripts(to_html(page_of("plain"))).found
    assert max(len(content) for _, content in scripts) > 1_000_000


def test_a_served_page_takes_plotly_from_its_server() -> None:
    page = page_of("plain")._replace(state_path='/state/"a&b"')
    tags = Tags(to_html(page, "served")).tags
    assert [a["src"] for tag, a in tags if tag == "script" and "src" in a] == [PLOTLY_PATH]
    assert next(a for tag, a in tags if tag == "body")["data-state"] == '/state/"a&b"'


def test_a_title_is_text() -> None:
    text = to_html(Page(HOSTILE, "", []), "served")
    assert "<script>hostile" not in text and "img" not in Tags(text).names


def test_a_tables_cells_are_text() -> None:
    text = table([HOSTILE, "n"], [[HOSTILE, "1"], ["b", "2"]], [False, True])
    tags = Tags(text)
    assert tags.cells == [HOSTILE, "1", "b", "2"]
    assert set(tags.names) == {"div", "table", "thead", "tr", "th", "tbody", "td"}
    assert [a.get("class") for tag, a in tags.tags if tag == "td"] == [None, "number", None, "number"]


def test_a_tables_columns_are_as_many_as_its_names() -> None:
    with pytest.raises(ValueError, match="zip"):
        table(["a", "b"], [["1"]])
