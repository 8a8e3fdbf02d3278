"""Draws the pages of a sweep that runs, from its ledger and its folder; in a process of its own, which
`orchestrator.sweep` has the driver start.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from dashboards.description import front_description
from dashboards.page import to_html
from dashboards.point_files import PointFiles, read_point_files
from dashboards.sweep_page import render
from dashboards.sweep_story import SweepStory
from dashboards.trial_page import point_page
from orchestrator.ledger import LedgerReader
from orchestrator.pages import DESCRIPTION, SWEEP_PAGE, Links, point_links
from orchestrator.paths import SweepPaths
from trainables.places import Place, local_copy


class LivePages:
    """See `orchestrator.pages.Pages`.

    Args:
        paths: of the sweep, whose ledger has its first event.
    """

    def __init__(self, paths: SweepPaths) -> None:
        self._paths = paths
        self._begin()

    def draw_sweep(self, into: Path, links: Links, experiment_id: str) -> None:
        """The page, the picture and the table of the sweep, and its description."""
        story = self._up_to_date()
        for name, content in render(story, links).items():
            (into / name).write_bytes(content)
        (into / DESCRIPTION).write_text(front_description(story, experiment_id), "utf-8")

    def draw_point(self, trial: str, epoch: int, into: Path, links: Links) -> None:
        """The page of a point with a final evaluation."""
        files = self._point_files(trial, epoch)
        story = self._up_to_date()
        page = point_page(story, trial, epoch, files)
        run_id = story.record.run_ids.get(trial)
        own = point_links(links, run_id) if run_id else {}
        (into / SWEEP_PAGE).write_text(to_html(page._replace(links=own)), "utf-8")

    def _point_files(self, trial: str, epoch: int) -> PointFiles:
        with contextlib.ExitStack() as copies:

            def path(place: Place) -> Path:
                try:
                    return copies.enter_context(local_copy(place))
                except FileNotFoundError:
                    return Path(place)  # where nothing is, either

            evaluation, traces = self._paths.evaluation(trial, epoch), self._paths.traces(trial)
            return read_point_files(path(evaluation), path(traces))

    def _up_to_date(self) -> SweepStory:
        try:
            for event in self._ledger.read():
                self._story.apply(event)
        except BaseException:
            self._begin()  # or what follows would be told without what was not taken in
            raise
        return self._story

    def _begin(self) -> None:
        self._ledger = LedgerReader(self._paths.ledger)
        self._story = SweepStory([])
