"""The pages in a real browser: inside MLflow's own pages, and outside of them while a sweep runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from browser import Watched, open_browser
from playwright.sync_api import Browser, Frame, Page
from stories import START, digits_settings, metrics, opening, proposal, report
from sweep_runs import TINY, SweepRun, wait_for

from dashboards.mlflow_ui import mlflow_ui
from dashboards.sweep_page import render
from dashboards.sweep_story import SweepStory
from orchestrator.events import TrialEnded, TrialProposed, TrialWarned
from orchestrator.pages import SWEEP_PAGE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
POINTS = "#figure-front .scatterlayer .trace .points path.point"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def mlflow(browser: Browser, tiny_sweep: SweepRun) -> Iterator[str]:
    with mlflow_ui(f"sqlite:///{tiny_sweep.folder}/mlflow.db") as address:
        wait_for(lambda: answers(browser, address), timeout_s=90)
        yield address


def answers(browser: Browser, address: str) -> bool:
    page = browser.new_page()
    try:
        answer = page.goto(f"{address}/health")
        return answer is not None and answer.ok
    except Exception:  # noqa: BLE001 - it has not begun to listen
        return False
    finally:
        page.close()


def run_address(mlflow: str, run: SweepRun, place: str = "") -> str:
    info = run.parent.info
    path = f"#/experiments/{info.experiment_id}/runs/{info.run_id}{place}"
    return f"{mlflow}/{path}?workflowType=machine_learning"


def report_frame(page: Page) -> Frame:
    """The frame in which MLflow shows the artifact."""
    page.locator("iframe").wait_for()
    frame = page.frames[-1]
    frame.locator(POINTS).first.wait_for()
    return frame


def test_the_artifact_shows_the_front_and_each_points_trial(
    browser: Browser, mlflow: str, tiny_sweep: SweepRun
) -> None:
    watched = Watched(browser)
    watched.page.goto(run_address(mlflow, tiny_sweep, "/artifacts/report.html"))
    frame = report_frame(watched.page)
    assert frame.evaluate("window.origin") == "null"  # the sandbox: links and pop-ups are dead
    assert frame.evaluate("document.documentElement.scrollWidth - window.innerWidth") == 0
    targets = frame.evaluate("document.getElementById('figure-front').data.at(-1).customdata")
    places = frame.locator("#figure-front .scatterlayer .trace").last.locator("path.point")
    assert places.count() == len(targets) >= len(tiny_sweep.record.front)
    for number, (trial, epoch) in enumerate(targets):
        places.nth(number).click(force=True)
        frame.locator("#trial h2", has_text=f"{trial}, epoch {epoch}").wait_for()
        watched.page.wait_for_timeout(500)  # two clicks within 300 ms are a double click to plotly
    best = tiny_sweep.record.front.sorted()[0]
    frame.locator(POINTS).last.hover(force=True)
    hover = frame.locator("#figure-front .hoverlayer .hovertext").text_content() or ""
    assert "temperature" in hover or "head.kind" in hover
    frame.locator(POINTS).last.click(force=True)
    title = frame.locator("#trial h2").inner_text()
    assert title == f"{best.trial}, epoch {best.epoch}"
    panel = frame.inner_text("#trial")
    assert tiny_sweep.children[best.trial].info.run_id in panel
    assert frame.locator("#trial .main-svg").count() > 0
    assert frame.locator("#trial a").count() == 0
    assert [error for error in watched.errors if "404" not in error] == []


def test_every_figure_is_drawn_when_it_comes_into_view(
    browser: Browser, mlflow: str, tiny_sweep: SweepRun
) -> None:
    watched = Watched(browser)
    watched.page.goto(run_address(mlflow, tiny_sweep, "/artifacts/report.html"))
    frame = report_frame(watched.page)
    keys = frame.evaluate(
        "Object.keys(JSON.parse(document.getElementById('state').textContent).figures)"
    )
    assert {"front", "hypervolume", "trajectories", "heads", "parallel", "stopping"} <= set(keys)
    for key in keys:
        frame.locator(f"#figure-{key}").scroll_into_view_if_needed()
        frame.wait_for_selector(f"#figure-{key} .main-svg")
    assert [error for error in watched.errors if "404" not in error] == []


def test_the_runs_description_links_to_the_trials(
    browser: Browser, mlflow: str, tiny_sweep: SweepRun
) -> None:
    watched = Watched(browser)
    watched.page.goto(run_address(mlflow, tiny_sweep))
    best = tiny_sweep.record.front.sorted()[0].trial
    watched.page.get_by_label("Expand description").click()
    with watched.page.expect_popup() as opened:
        watched.page.locator("table", has_text="knn_accuracy").locator("a", has_text=best).click()
    assert tiny_sweep.children[best].info.run_id in opened.value.url
    opened.value.locator("h1, h2, h3", has_text=best).first.wait_for()


@pytest.fixture
def served(tiny_sweep: SweepRun, mlflow: str) -> Iterator[str]:
    """The address of `dashboards.serve` on the store of the tiny sweep."""
    command = [sys.executable, "-m", "dashboards.serve", "--port", "0", "--mlflow", mlflow]
    command += ["--uri", f"sqlite:///{tiny_sweep.folder}/mlflow.db"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
        process.terminate()
        assert process.wait(30) in (0, -15)


def test_a_served_page_links_to_the_runs(
    browser: Browser, served: str, tiny_sweep: SweepRun, mlflow: str
) -> None:
    watched = Watched(browser)
    watched.page.goto(served)
    watched.page.click("td a:text-is('tiny')")
    watched.page.click("button.point")
    trial = watched.page.inner_text("#trial h2").split(",")[0]
    with watched.page.expect_popup() as opened:
        watched.page.click("#trial >> text=open the run in MLflow")
    run_id = tiny_sweep.children[trial].info.run_id
    assert opened.value.url.startswith(mlflow) and run_id in opened.value.url
    opened.value.locator(f"text={run_id}").first.wait_for()
    assert watched.errors == []


def test_a_served_page_follows_its_sweep(
    browser: Browser, served: str, tiny_sweep: SweepRun, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "orchestrator.sweep", str(TINY), "--name", "followed"]
    places = {"storage": tmp_path, "tracking.uri": f"sqlite:///{tiny_sweep.folder}/mlflow.db"}
    command += [part for name, value in places.items() for part in ("--set", f"{name}={value}")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as sweep:
        watched = Watched(browser)
        page = watched.page
        page.goto(served)
        wait_for(
            lambda: page.reload() and page.locator("td a:text-is('followed')").count(), timeout_s=90
        )
        page.click("td a:text-is('followed')")
        page.wait_for_selector(POINTS)
        page.evaluate("Plotly.relayout('figure-front', {'yaxis.range': [0.25, 1.5]})")
        page.click("button.point")
        chosen = page.inner_text("#trial h2")
        before = page.inner_text("#summary")
        page.wait_for_function(
            "before => document.getElementById('summary').innerText !== before", arg=before
        )
        page.wait_for_function(
            "() => document.querySelector('#summary .badge').innerText === 'completed'"
        )
        assert sweep.wait(60) == 0
    assert "4 of 4" in page.inner_text("#summary")
    assert page.evaluate("document.getElementById('figure-front').layout.yaxis.range") == [0.25, 1.5]
    assert page.inner_text("#trial h2") == chosen
    assert watched.errors == []


def test_every_figure_of_a_served_page_is_drawn(browser: Browser, served: str) -> None:
    watched = Watched(browser)
    page = watched.page
    page.goto(f"{served}/sweeps/tiny")
    assert "/sweeps/tiny" not in page.url  # it has led to the run of this name
    page.pdf()  # prints it; of what was not scrolled to too
    undrawn = page.evaluate(
        "[...document.querySelectorAll('section .figure:not([hidden])')]"
        ".filter(figure => !figure.querySelector('.main-svg')).map(figure => figure.id)"
    )
    assert undrawn == [] and page.locator("section .figure .main-svg").count() > 4
    page.locator("#figure-parallel").scroll_into_view_if_needed()
    page.wait_for_selector("#figure-parallel canvas")
    assert "WebGL is not supported" not in page.inner_text("body")
    assert watched.errors == []


def test_served_pages_lead_on(browser: Browser, served: str, tiny_sweep: SweepRun, mlflow: str) -> None:
    page = Watched(browser).page
    page.goto(f"{served}/sweeps/{tiny_sweep.parent.info.run_id}")
    assert page.locator("nav a").all_inner_texts() == ["all sweeps", "the run in MLflow"]
    assert page.get_attribute("nav a >> nth=1", "href") == run_address(mlflow, tiny_sweep)
    trial, epoch = next(key for key, found in tiny_sweep.record.evaluations.items() if found)
    run_id = tiny_sweep.children[trial].info.run_id
    page.goto(f"{page.url}/points/{run_id}/{epoch}")
    assert page.locator("nav a").all_inner_texts() == ["all sweeps", "the sweep", "the run in MLflow"]
    assert run_id in (page.get_attribute("nav a >> nth=2", "href") or "")
    page.click("nav >> text=the sweep")
    page.click("nav >> text=all sweeps")
    page.locator("td a:text-is('tiny')").wait_for()


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_wider_than_the_window(
    browser: Browser, served: str, width: int, *, dark: bool
) -> None:
    watched = Watched(browser, width, dark=dark)
    watched.page.goto(served)
    assert watched.overflow == 0
    watched.page.click("td a:text-is('tiny')")
    watched.page.click("button.point")
    watched.page.wait_for_selector("#trial .main-svg")
    assert watched.overflow == 0
    ink = watched.page.evaluate(
        "document.querySelector('#figure-front').layout.template.layout.font.color"
    )
    assert ink == ("#e6e6e6" if dark else "#222")


HOSTILE = '</script><script>window.hostile=1</script><img src=x onerror="window.hostile=1"><b>'


def test_a_script_in_a_name_or_a_parameter_does_not_run(browser: Browser, tmp_path: Path) -> None:
    settings = digits_settings()
    drawn = {"head.kind": "none", "temperature": 0.1, "optimizer.head_lr": 0.002}
    first, *rest = proposal(settings, 0, {**drawn, "optimizer.encoder_lr_ratio": 1.0})
    assert isinstance(first, TrialProposed)
    data = {**first.config["data"], "source": HOSTILE}
    hostile = replace(
        first,
        parameters={**first.parameters, "head.kind": HOSTILE, HOSTILE: HOSTILE},
        config={**first.config, "data": data, "head": {**first.config["head"], "kind": HOSTILE}},
    )
    events = [
        *opening(settings, HOSTILE),
        hostile,
        *rest,
        report(0, 5, metrics(0.9, 9.0)),
        report(0, 10, metrics(0.8, 12.0)),
        TrialWarned(first.trial, HOSTILE, START),
        TrialEnded(first.trial, "failed", HOSTILE, START, HOSTILE),
    ]
    path = tmp_path / "report.html"
    path.write_bytes(render(SweepStory(events), {"runs": "javascript:window.hostile=1//"})[SWEEP_PAGE])
    watched = Watched(browser)
    watched.page.goto(path.as_uri())
    watched.page.locator(POINTS).last.hover(force=True)
    watched.page.wait_for_selector("#figure-front .hoverlayer .hovertext")
    watched.page.locator(POINTS).last.click(force=True)
    watched.page.wait_for_selector("#trial .main-svg")
    watched.page.click("#trial summary")
    for key in ("trajectories", "parallel", "stopping", "failures"):
        watched.page.locator(f"#section-{key}").scroll_into_view_if_needed()
    assert HOSTILE in watched.page.inner_text("#trial") and HOSTILE in watched.page.inner_text("h1")
    assert HOSTILE in watched.page.inner_text("#section-failures")
    assert watched.page.evaluate("window.hostile") is None
    assert watched.page.locator("img").count() == 0
    assert watched.errors == []
