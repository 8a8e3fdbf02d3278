"""What draws a sweep's pages, as the driver knows it; `dashboards.live_pages` is one.

It lives in a process of its own and reads the ledger: a page of a large sweep takes seconds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from orchestrator.paths import SweepPaths
from orchestrator.remote_object import RemoteObject

SWEEP_PAGE = "report.html"
"""The sweep's page among the artifacts of its run; a point's is called so beside its evaluation."""
DESCRIPTION = "description.md"
"""A text for the description of the sweep's run; no artifact."""
Links = Mapping[str, str]
"""Addresses for pages that are read outside of MLflow: see `dashboards.page.Page`."""


class Pages(Protocol):
    """Draws what the ledger tells at the time of the call."""

    def draw_sweep(self, into: Path, links: Links, experiment_id: str) -> None:
        """Writes the files of the sweep into a folder, and `DESCRIPTION`."""
        ...

    def draw_point(self, trial: str, epoch: int, into: Path, links: Links) -> None:
        """Writes the page of a point with a final evaluation into a folder."""
        ...


RUN = "{run}"
"""Stands for the id of a run in `Links["runs"]`."""


def runs_address(host: str, experiment_id: str) -> str:
    """The address of the runs of an experiment on a server of MLflow's, with RUN for a run's id."""
    return f"{host.rstrip('/')}/{_run_place(experiment_id, RUN, '')}"


def run_address(host: str, experiment_id: str, run_id: str, place: str = "") -> str:
    """The address of one run.

    Args:
        host: of MLflow's pages.
        experiment_id: the run's.
        run_id: its id.
        place: of the run's page, such as /artifacts/NAME.
    """
    return f"{host.rstrip('/')}/{run_place(experiment_id, run_id, place)}"


def run_place(experiment_id: str, run_id: str, place: str = "") -> str:
    """The same from any of MLflow's own pages."""
    return _run_place(quote(experiment_id, safe=""), quote(run_id, safe=""), place)


def _run_place(experiment_id: str, run_id: str, place: str) -> str:
    # Without the last part MLflow opens a run in its mode for GenAI, which has no metrics of training.
    return f"#/experiments/{experiment_id}/runs/{run_id}{place}?workflowType=machine_learning"


def point_links(links: Links, run_id: str) -> Links:
    """What of a sweep's links the page of a point has: its own run.

    Args:
        links: of the sweep's page.
        run_id: of the point's trial.
    """
    return {"run": links["runs"].replace(RUN, quote(run_id, safe=""))} if "runs" in links else {}


MakePages = Callable[[SweepPaths], Pages]


class RemotePages:
    """`Pages` in a process of their own.

    Args:
        make: makes them, there.
        paths: of the sweep.
    """

    def __init__(self, make: MakePages, paths: SweepPaths) -> None:
        self._remote = RemoteObject("the pages", functools.partial(make, paths), paths.log)

    def draw_sweep(self, into: Path, links: Links, experiment_id: str) -> None:
        """See `Pages`."""
        self._remote.call("draw_sweep", into, links, experiment_id)

    def draw_point(self, trial: str, epoch: int, into: Path, links: Links) -> None:
        """See `Pages`."""
        self._remote.call("draw_point", trial, epoch, into, links)

    def close(self) -> None:
        """Ends the process."""
        self._remote.close()
