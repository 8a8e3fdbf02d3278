"""The served pages over HTTP: what is found where, and what is said where nothing is."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple

import pytest
import uvicorn
from front_tables import Tags
from stories import state_of
from story_stores import START, begun, track_events
from tracked_sweeps import uri

from dashboards import served_sweeps, web_app
from dashboards.served_sweeps import KEPT_POINTS, ServedSweeps
from dashboards.sweep_store import SweepStore
from orchestrator.errors import UserError
from orchestrator.events import PointEvaluated

MLFLOW = "https://mlflow.example/base"
NO_RUN = "0" * 32


class Answer(NamedTuple):
    status: int
    text: str
    headers: dict[str, str]

    @property
    def is_page(self) -> bool:
        return self.text.startswith("<!doctype html>") and "content-security-policy" in self.headers


class Site:
    """The application on loopback.

    Attributes:
        run_id: of the one sweep, which is named digits.
        trial: the id of its evaluated trial's run, at epoch 5.
    """

    def __init__(self, store: SweepStore, listening: socket.socket) -> None:
        self.store = store
        self.sweeps = ServedSweeps(store, MLFLOW)
        self.port = listening.getsockname()[1]
        config = uvicorn.Config(web_app.make_app(self.sweeps, ["127.0.0.1"]), log_config=None)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listening]})
        parent = store.parent("digits")
        self.run_id, self.experiment = parent.run_id, parent.experiment_id
        runs = {child.trial: child.run_id for child in store.children(parent)}
        self.trial = runs["trial-0000"]

    def start(self) -> None:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()

    def get(self, path: str) -> Answer:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", path)
        answer = connection.getresponse()
        found = Answer(answer.status, answer.read().decode(), dict(answer.getheaders()))
        connection.close()
        return found

    def run(self, run_id: str) -> str:
        return f"{MLFLOW}/#/experiments/{self.experiment}/runs/{run_id}?workflowType=machine_learning"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("web")
    evaluated = PointEvaluated(
        "trial-0000", 5, {"test_knn_accuracy": 0.9, "test_d_eff": 40.0}, START + 20
    )
    track_events(place, [*begun(), evaluated])
    return place


@pytest.fixture
def site(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(served_sweeps, "ASKED_EVERY_S", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        site = Site(SweepStore(uri(folder)), listening)
        site.start()
        yield site
        site.stop()


def test_a_name_leads_to_the_page_of_its_newest_run(site: Site) -> None:
    answer = site.get("/sweeps/digits")
    assert (answer.status, answer.headers["location"]) == (307, f"/sweeps/{site.run_id}")
    assert site.get(answer.headers["location"]).status == 200
    assert set(site.sweeps._served) == {site.run_id}


@pytest.mark.parametrize(
    "path",
    ["/sweeps/nosuch", f"/sweeps/{NO_RUN}", "/nosuch", f"/sweeps/digits/points/{NO_RUN}/5"],
)
def test_what_is_not_there_is_a_page_with_404(site: Site, path: str) -> None:
    answer = site.get(path)
    assert answer.status == 404 and answer.is_page
    assert "This page cannot be shown" in answer.text


def test_the_state_of_what_is_not_there_is_404_and_of_a_dead_store_503(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = site.get("/sweeps/nosuch/state")
    assert absent.status == 404 and "has no sweep 'nosuch'" in absent.text and not absent.is_page
    path = f"/sweeps/{site.run_id}/state"
    assert site.get(path).status == 200

    def fail(parent: object) -> None:
        raise UserError("no answer")

    monkeypatch.setattr(site.store, "reread", fail)
    assert site.get(path)[:2] == (503, "no answer")
    assert site.get(path.removesuffix("/state")).status == 503


def test_an_epoch_that_is_no_number_is_a_page_with_422(site: Site) -> None:
    answer = site.get(f"/sweeps/{site.run_id}/points/{site.trial}/%3Cb%3E")
    assert answer.status == 422 and answer.is_page and "epoch: " in answer.text
    assert "b" not in Tags(answer.text).names


def test_a_fault_is_a_page_and_its_traceback_is_logged_once(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(site.sweeps, "all", lambda: {}["unforeseen"])
    with caplog.at_level(logging.ERROR):
        answer = site.get("/")
        site.stop()  # the log is written after the answer
    assert answer.status == 500 and answer.is_page and "unforeseen" not in answer.text
    assert [str(r.exc_info[1]) for r in caplog.records if r.exc_info] == ["'unforeseen'"]


def test_pages_lead_on_to_each_other_and_to_mlflow(site: Site) -> None:
    sweep = state_of(site.get(f"/sweeps/{site.run_id}").text)["links"]
    assert (sweep["index"], sweep["run"]) == ("/", site.run(site.run_id))
    assert sweep["runs"] == site.run("{run}")
    point = state_of(site.get(f"{sweep['points']}{site.trial}/5").text)["links"]
    assert point == {"index": "/", "sweep": f"/sweeps/{site.run_id}", "run": site.run(site.trial)}
    links = [a["href"] for tag, a in Tags(site.get("/").text).tags if tag == "a"]
    assert links == [f"/sweeps/{site.run_id}", site.run(site.run_id)]


def test_a_points_page_is_drawn_once_and_while_the_sweep_is_asked_for(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw, drawn = served_sweeps.tracked_point_page, []
    sweep = site.sweeps.sweep(site.run_id)

    def drawing(*arguments: object) -> object:
        assert sweep._lock.acquire(timeout=5)  # the sweep's own page can be had meanwhile
        sweep._lock.release()
        drawn.append(arguments)
        return draw(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(served_sweeps, "tracked_point_page", drawing)
    path = f"/sweeps/{site.run_id}/points/{site.trial}/5"
    first, second = site.get(path), site.get(path)
    assert first.status == 200 and first.text == second.text and len(drawn) == 1


def test_only_the_latest_points_pages_are_kept(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = site.sweeps.sweep(site.run_id)
    sweep.drawn()
    evaluations = sweep._tracked.story().record.evaluations
    epochs = range(100, 100 + KEPT_POINTS + 1)
    evaluations |= {("trial-0000", epoch): {"test_d_eff": 1.0} for epoch in epochs}
    monkeypatch.setattr(sweep, "_draw_point", lambda story, trial, run_id, epoch: str(epoch))
    assert [sweep.point(site.trial, epoch) for epoch in epochs] == [str(epoch) for epoch in epochs]
    assert [key.epoch for key in sweep._points] == list(epochs)[1:]


def test_plotly_may_make_the_functions_that_it_draws_with(site: Site) -> None:
    policy = site.get("/").headers["content-security-policy"]
    (scripts,) = [part for part in policy.split("; ") if part.startswith("script-src")]
    assert scripts.split() == ["script-src", "'self'", "'unsafe-inline'", "'unsafe-eval'"]
