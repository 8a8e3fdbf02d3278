"""The pages that a sweep's MLflow runs hold: drawn when they are due, and logged.

Called by `orchestrator.tracking` on the thread that talks to MLflow.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from orchestrator.mlflow_runs import MlflowRuns
from orchestrator.pages import DESCRIPTION, Links, Pages, runs_address

logger = logging.getLogger(__name__)


class PageUploads:
    """Draws pages and logs them.

    A page that cannot be drawn is left out: the sweep, and what else is logged of it, go on.

    Args:
        runs: the sweep's runs, opened.
        pages: draws them.

    Attributes:
        drawing_s: the time that the sweep's page took to draw last.
        failed: what could not be drawn when it was tried last: a point's trial and epoch, None for the
            sweep; the log says why.
    """

    def __init__(self, runs: MlflowRuns, pages: Pages) -> None:
        self._runs = runs
        self._pages = pages
        self._is_stale = False
        self.drawing_s = 0.0
        self.failed: set[tuple[str, int] | None] = set()

    def set_stale(self) -> None:
        """Has the sweep's page drawn with the next `write_sweep`."""
        self._is_stale = True

    def write_sweep(self) -> None:
        """Draws the newest state, once: what a dead server missed is not drawn again and again."""
        if not self._is_stale:
            return
        self._is_stale = False
        try:
            with tempfile.TemporaryDirectory() as name:
                self._write_sweep(Path(name))
        except BaseException:
            self._is_stale = True
            raise

    def _write_sweep(self, folder: Path) -> None:
        started = time.monotonic()
        if not self._is_drawn(
            None, lambda: self._pages.draw_sweep(folder, self._links, self._runs.experiment_id)
        ):
            return
        self.drawing_s = time.monotonic() - started
        description = (folder / DESCRIPTION).read_text("utf-8")
        (folder / DESCRIPTION).unlink()
        self._runs.describe_sweep(description)
        self._runs.write_pages(folder)

    def write_point(self, trial: str, epoch: int) -> None:
        """Draws the page of a point with a final evaluation."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            if self._is_drawn(
                (trial, epoch), lambda: self._pages.draw_point(trial, epoch, folder, self._links)
            ):
                self._runs.write_point_page(trial, epoch, folder)

    def _is_drawn(self, key: tuple[str, int] | None, draw: Callable[[], None]) -> bool:
        try:
            draw()
        except OSError:  # the process was killed, or the disk is full: a passing reason
            raise
        except Exception:
            self.failed.add(key)
            what = "the sweep" if key is None else f"{key[0]}, epoch {key[1]},"
            logger.exception("the page of %s could not be drawn", what)
            return False
        self.failed.discard(key)
        return True

    @property
    def _links(self) -> Links:
        """To MLflow's own pages, where it has a server."""
        uri = self._runs.tracking_uri
        return {"runs": runs_address(uri, self._runs.experiment_id)} if uri.startswith("http") else {}
