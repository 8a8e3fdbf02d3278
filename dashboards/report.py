"""python -m dashboards.report SWEEP: every page of a sweep again, made of what MLflow has of it alone.

For a sweep that runs, was killed or whose folder is gone; what is drawn is logged to the runs where the
driver logs it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from dashboards.command_line import add_sweep_options, exit_code, write_files
from dashboards.description import front_description
from dashboards.head_results import NothingToShowError, read_results
from dashboards.page import to_html
from dashboards.paper_tables import info, read_paper
from dashboards.sweep_page import render
from dashboards.sweep_store import SweepStore
from dashboards.table_formats import render as render_tables
from dashboards.tables import PLACE
from dashboards.tracked_points import tracked_point_page
from dashboards.tracked_results import read_sweep
from dashboards.tracked_sweep import TrackedSweep
from orchestrator.mlflow_values import evaluation_folder
from orchestrator.pages import SWEEP_PAGE, Links, point_links, runs_address

POINTS = "points"
"""The folder below --out with the pages of points."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = _parse(arguments)
    return exit_code(lambda: _Report(options.sweep, options.uri, options.out, Console()).make())


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m dashboards.report",
        description="Draws the page of a sweep, those of its evaluated points and the paper's tables "
        "anew, from MLflow alone, also of a sweep that runs or was killed, and logs them to its runs.",
    )
    parser.add_argument("sweep", metavar="SWEEP", help="the sweep's name, or the id of its run")
    add_sweep_options(parser)
    return parser.parse_args(arguments)


class _Report:
    """All pages of one sweep.

    Args:
        sweep: name or run id.
        uri: where MLflow is.
        out: a folder for the same files; None for none.
        console: for a line a page.
    """

    def __init__(self, sweep: str, uri: str, out: Path | None, console: Console) -> None:
        self._store = SweepStore(uri)
        self._tracked = TrackedSweep(self._store, sweep)
        self._out = out
        self._console = console

    def make(self) -> None:
        """Draws, writes and logs them.

        Raises:
            UserError: MLflow or the folder does not take part.
        """
        parent = self._tracked.parent
        self._say(f"sweep {parent.name}, run {parent.run_id}: reading {self._store.uri}")
        self._tracked.refresh()
        self._draw_sweep()
        for trial, epoch in self._evaluated():
            self._draw_point(trial, epoch)
        self._draw_tables()

    def _draw_sweep(self) -> None:
        parent, story = self._tracked.parent, self._tracked.story()
        files = render(story, self._links)
        self._put(parent.run_id, "", files, self._out)
        self._store.describe(parent.run_id, front_description(story, parent.experiment_id))
        record = story.record
        self._say(
            f"{', '.join(files)}: {record.status}, {record.num_ended} trials ended, "
            f"{len(record.front)} points on the front"
        )

    @property
    def _links(self) -> Links:
        """To MLflow's own pages, where it has a server."""
        if not self._store.is_server:
            return {}
        return {"runs": runs_address(self._store.uri, self._tracked.parent.experiment_id)}

    def _evaluated(self) -> list[tuple[str, int]]:
        record = self._tracked.story().record
        return sorted(key for key, metrics in record.evaluations.items() if metrics)

    def _draw_point(self, trial: str, epoch: int) -> None:
        story = self._tracked.story()
        run_id, place = story.record.run_ids[trial], evaluation_folder(epoch)
        page = tracked_point_page(self._store, story, trial, epoch)
        content = to_html(page._replace(links=point_links(self._links, run_id))).encode()
        self._put(run_id, place, {SWEEP_PAGE: content}, None)
        if self._out is not None:
            write_files(self._out / POINTS, {f"{trial}-epoch-{epoch:04d}.html": content})
        self._say(f"{trial}: {place}/{SWEEP_PAGE}")

    def _draw_tables(self) -> None:
        sweep = read_sweep(self._store, self._tracked.parent.run_id)
        try:
            results = read_results(self._store, sweep)
        except NothingToShowError as error:
            self._say(f"no tables: {error}")
            return
        files = render_tables(info(sweep, results, read_paper()))
        self._put(sweep.run_id, PLACE, files, None if self._out is None else self._out / PLACE)
        self._say(f"{PLACE}: {', '.join(sorted(files))}")

    def _put(self, run_id: str, place: str, files: Mapping[str, bytes], folder: Path | None) -> None:
        if folder is not None:
            write_files(folder, files)
        self._store.log(run_id, place, files)

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
