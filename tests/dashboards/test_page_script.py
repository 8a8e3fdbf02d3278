"""The pages' script in a real browser, over a server that the test plays itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import plotly.graph_objects as go
import pytest
from browser import Watched, open_browser
from playwright.sync_api import Browser, Route
from plotly.offline import get_plotlyjs

from dashboards.page import PLOTLY_PATH, Page, Section, to_html, to_state, to_trials

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
SITE = "http://sweeps.example"
DETAILS = "<details><summary>more</summary><p>what is told</p></details>"
BUTTON = '<button data-trial="t" data-epoch="2">t</button>'


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


def page_of(reason: str = "", epochs: int = 3, note: str = "", other: str = "") -> Page:
    item = {
        "status": "running", "reason": reason, "warning": "", "retries": [],
        "source": "", "confirms": "",
        "run": "a/b", "parameters": {"temperature": 0.1}, "config": {}, "front": [], "evaluated": [2],
        "epochs": list(range(1, epochs + 1)), "curves": {"acc": [0.5] * epochs},
    }  # fmt: skip
    group = {"label": "acc", "metrics": [{"name": "acc", "label": "acc"}], "logarithmic": False}
    trials = {"objectives": ["acc"], "curves": [group], "common": {"seed": 1}}
    items = {"t": item, "other": {**item, "reason": other}}
    figure = go.Figure([go.Scatter(x=[1.0], y=[2.0])])
    section = Section("front", "Front", f"{BUTTON}<p>{note}</p>{DETAILS}", figure)
    links = {"runs": "https://mlflow.example/runs/{run}?mode=x", "points": "/points/"}
    return Page("title", "", [section], {**trials, "items": items}, links, "/state")


class Server:
    """Answers a page's questions; those after the first state as the test says.

    Attributes:
        page: what is told from now on.
        hangs: whether it does not answer any more.
    """

    def __init__(self, watched: Watched) -> None:
        self.page = page_of()
        self.hangs = False
        watched.page.route(f"{SITE}/**", self._answer)
        watched.page.goto(SITE)

    def _answer(self, route: Route) -> None:
        path = route.request.url.removeprefix(SITE)
        if path == "/":
            route.fulfill(body=to_html(self.page, "served"), content_type="text/html")
        elif path == PLOTLY_PATH:
            route.fulfill(body=get_plotlyjs(), content_type="text/javascript")
        elif not self.hangs:
            text = to_trials(self.page) if path.endswith("/trials") else to_state(self.page)
            route.fulfill(body=text, content_type="application/json")


def marked(watched: Watched) -> dict[str, Any]:
    """What of the panel's elements the test has marked is still there."""
    return json.loads(
        watched.page.evaluate(
            "JSON.stringify(Object.fromEntries(['#trial h2', '#trial .figure', '#trial details',"
            "'#trial code'].map(place => [place, document.querySelector(place).dataset.mark || ''])))"
        )
    )


def mark(watched: Watched) -> None:
    watched.page.evaluate(
        "for (const place of ['h2', '.figure', 'details', 'code'])"
        " document.querySelector('#trial ' + place).dataset.mark = 'mine'"
    )


def test_an_update_leaves_what_the_reader_does(browser: Browser) -> None:
    watched = Watched(browser)
    server, page = Server(watched), watched.page
    page.click("button[data-trial]")
    page.wait_for_selector("#trial .main-svg")
    page.click("#trial summary")
    page.click("#section-front summary")
    page.evaluate("Plotly.relayout(document.querySelector('#trial .figure'), {'xaxis.range': [1, 2]})")
    mark(watched)
    server.page = page_of(note="news", other="news")  # of others alone
    page.wait_for_selector("text=news")
    assert set(marked(watched).values()) == {"mine"}
    assert page.evaluate("document.querySelector('#section-front details').open")
    server.page = page_of(reason="it goes on", epochs=4)
    page.wait_for_selector("#trial >> text=it goes on")
    assert marked(watched) == {
        "#trial h2": "", "#trial .figure": "mine", "#trial details": "mine", "#trial code": "mine",
    }  # fmt: skip
    drawn = "document.querySelector('#trial .figure')"
    assert page.evaluate(f"{drawn}.data[0].x.length") == 4
    assert page.evaluate(f"{drawn}.layout.xaxis.range") == [1, 2]
    assert page.evaluate("document.querySelector('#trial details').open")
    assert watched.errors == []


def test_a_panel_that_is_closed_leaves_no_figure(browser: Browser) -> None:
    watched = Watched(browser)
    Server(watched)
    page = watched.page
    page.evaluate(
        "() => { window.purged = 0; const purge = Plotly.purge;"
        " Plotly.purge = (place) => { window.purged += 1; return purge(place); }; }"
    )
    for _ in range(2):
        page.click("button[data-trial]")
    page.click("#trial .close")
    assert page.evaluate("window.purged") == 2 and page.locator("#trial").is_hidden()


def test_links_have_the_runs_id_in_its_place(browser: Browser) -> None:
    watched = Watched(browser)
    Server(watched)
    watched.page.click("button[data-trial]")
    links = watched.page.eval_on_selector_all("#trial a", "all => all.map(a => a.href)")
    assert links == ["https://mlflow.example/runs/a%2Fb?mode=x", f"{SITE}/points/a%2Fb/2"]


def test_a_page_says_that_its_server_does_not_answer(browser: Browser) -> None:
    watched = Watched(browser)
    server, note = Server(watched), watched.page.locator("#state-of-page")
    server.hangs = True
    note.locator("text=not up to date, asking again: no answer within 10 s").wait_for(timeout=20_000)
    server.hangs = False
    watched.page.wait_for_function("() => document.getElementById('state-of-page').innerText === ''")


def viewed(low: float) -> Page:
    """A page whose front is shown from there on, as it is when better points come."""
    page = page_of()
    figure = go.Figure()
    figure.add_scatter(x=[1, 2], y=[0, 1])
    figure.update_yaxes(range=[low, 1.0])
    return page._replace(sections=[Section("front", "", f"from {low}", figure)])


def test_a_readers_zoom_stays_where_the_pages_own_view_moves(browser: Browser) -> None:
    watched = Watched(browser)
    server, page = Server(watched), watched.page
    seen = "document.getElementById('figure-front').layout.yaxis.range"
    for low in (0.2, 0.4):
        server.page = viewed(low)
        page.wait_for_selector(f"text=from {low}")
        page.wait_for_function(f"() => {seen}[0] === {low}")
    page.evaluate("Plotly.relayout('figure-front', {'yaxis.range': [0.5, 0.6]})")
    for low in (0.6, 0.7):
        server.page = viewed(low)
        page.wait_for_selector(f"text=from {low}")
        assert page.evaluate(seen) == [0.5, 0.6]
