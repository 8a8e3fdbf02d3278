"""The sweeps of a tracking server as served pages, each read and drawn again when somebody asks for it
and it has changed. Called by `dashboards.web_app` from several threads.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import NamedTuple
from urllib.parse import quote

from dashboards.page import Page, to_html, to_state, to_trials
from dashboards.sweep_page import sweep_page
from dashboards.sweep_store import SweepStore
from dashboards.sweep_story import SweepStory
from dashboards.tracked_points import tracked_point_page
from dashboards.tracked_runs import SweepSummary
from dashboards.tracked_sweep import TrackedSweep
from orchestrator.errors import NotFoundError, UserError
from orchestrator.pages import Links, run_address, runs_address

ASKED_EVERY_S = 2.0
"""So often, at most, is MLflow asked for what is new in a sweep."""
KEPT_POINTS = 32
"""Pages of points that a sweep keeps: each is some MiB, and takes seconds to draw."""
_DRAWING_SHARE = 0.2
"""Of the time, at most, is spent drawing one sweep."""


class Drawn(NamedTuple):
    """A sweep's page at one moment.

    Attributes:
        revision: no other moment of this process has it.
        html: the whole page.
        state: its content as JSON, for a page that is open.
        trials: what clicks show, as JSON.
    """

    revision: str
    html: str
    state: str
    trials: str


class _PointKey(NamedTuple):
    """What a drawn page of a point is of; a further evaluation changes what it is compared with."""

    run_id: str
    epoch: int
    num_evaluations: int


class ServedSweep:
    """One sweep.

    Args:
        store: where it is.
        run_id: of its own run.
        mlflow: the address of MLflow's pages.

    Raises:
        NotFoundError: there is no such sweep.
    """

    def __init__(self, store: SweepStore, run_id: str, mlflow: str) -> None:
        self._store = store
        self._tracked = TrackedSweep(store, run_id)
        self._mlflow = mlflow
        self._lock = threading.Lock()
        self._asked = self._drawn_at = -float("inf")
        self._failure: UserError | None = None
        self._drawing_s = 0.0
        self._is_stale = True
        self._revision = 0
        self._drawn: Drawn | None = None
        self._points: OrderedDict[_PointKey, str] = OrderedDict()

    @property
    def run_id(self) -> str:
        """Of its own run."""
        return self._tracked.parent.run_id

    def drawn(self) -> Drawn:
        """The sweep as it is now, or was a moment ago.

        Raises:
            UserError: MLflow does not answer.
        """
        with self._lock:
            self._refresh()
            is_due = time.monotonic() - self._drawn_at >= self._drawing_s / _DRAWING_SHARE
            if self._drawn is None or (self._is_stale and is_due):
                self._drawn = self._draw()
            return self._drawn

    def point(self, run_id: str, epoch: int) -> str:
        """The page of a point with a final evaluation, drawn while the sweep's own goes on.

        Args:
            run_id: of the trial.
            epoch: of the point.

        Raises:
            NotFoundError: it has none.
            UserError: MLflow does not answer.
        """
        with self._lock:
            self._refresh()
            record = self._tracked.story().record
            trials = {run: trial for trial, run in record.run_ids.items()}
            if not record.evaluations.get((trials.get(run_id, ""), epoch)):
                raise NotFoundError(f"run {run_id} has no final evaluation of epoch {epoch}")
            key = _PointKey(run_id, epoch, len(record.evaluations))
            if (kept := self._points.get(key)) is not None:
                self._points.move_to_end(key)
                return kept
            story = self._tracked.story().copy()
        html = self._draw_point(story, trials[run_id], run_id, epoch)
        with self._lock:
            self._points[key] = html
            while len(self._points) > KEPT_POINTS:
                self._points.popitem(last=False)
        return html

    def _refresh(self) -> None:
        """Reads what is new; those that waited for an answer that did not come do not ask again."""
        if time.monotonic() - self._asked >= ASKED_EVERY_S:
            try:
                self._is_stale |= self._tracked.refresh()
                self._failure = None
            except UserError as error:
                self._failure = error
            self._asked = time.monotonic()
        if self._failure is not None:
            raise type(self._failure)(str(self._failure))

    def _draw(self) -> Drawn:
        started = time.monotonic()
        parent = self._tracked.parent
        links = {
            "index": "/",
            "run": run_address(self._mlflow, parent.experiment_id, parent.run_id),
            "runs": runs_address(self._mlflow, parent.experiment_id),
            "points": f"{self._place}/points/",
        }
        page: Page = sweep_page(self._tracked.story(), links, f"{self._place}/state")
        self._revision += 1
        self._is_stale = False
        drawn = Drawn(
            f'"{id(self)}-{self._revision}"', to_html(page, "served"), to_state(page), to_trials(page)
        )
        self._drawn_at = time.monotonic()
        self._drawing_s = self._drawn_at - started
        return drawn

    def _draw_point(self, story: SweepStory, trial: str, run_id: str, epoch: int) -> str:
        run = run_address(self._mlflow, self._tracked.parent.experiment_id, run_id)
        links: Links = {"index": "/", "sweep": self._place, "run": run}
        page = tracked_point_page(self._store, story, trial, epoch)
        return to_html(page._replace(links=links), "served")

    @property
    def _place(self) -> str:
        return sweep_place(self.run_id)


def sweep_place(run_id: str) -> str:
    """Where the page of a sweep is."""
    return f"/sweeps/{quote(run_id, safe='')}"


class ServedSweeps:
    """All sweeps of a store; those that were asked for stay in memory.

    Args:
        store: where they are.
        mlflow: the address of MLflow's pages.
    """

    def __init__(self, store: SweepStore, mlflow: str) -> None:
        self.store = store
        self.mlflow = mlflow
        self._lock = threading.Lock()
        self._served: dict[str, ServedSweep] = {}

    def all(self) -> list[SweepSummary]:
        """The newest first."""
        return self.store.sweeps()

    def sweep(self, asked: str) -> ServedSweep:
        """The sweep of a run id, or the newest of a name.

        Raises:
            NotFoundError: there is none.
            UserError: MLflow does not answer.
        """
        with self._lock:
            if asked in self._served:
                return self._served[asked]
        found = ServedSweep(self.store, self.store.parent(asked).run_id, self.mlflow)
        with self._lock:  # which is free while MLflow is asked
            return self._served.setdefault(found.run_id, found)
