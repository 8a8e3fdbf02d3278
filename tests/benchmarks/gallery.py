"""python -m tests.benchmarks.gallery DIR: the README's pictures of pages, taken in Chromium.

DIR is what `python -m dashboards.report SWEEP --out DIR` wrote; the pictures go to dashboards/pictures.
"""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import Browser

sys.path.insert(0, str(Path(__file__).parents[1]))

from browser import Watched, open_browser

PICTURES = Path(__file__).parents[2] / "dashboards" / "pictures"
_SWEEP = {"trajectories": 560, "parallel": 820, "importance": 560, "heads": 560}
_POINT = {"clustermap": "correlations", "truncation": "truncation"}


def main(folder: Path, point: str) -> None:
    """Takes all pictures.

    Args:
        folder: with report.html and points/.
        point: the name of a file in points/, without its ending.
    """
    with open_browser() as browser:
        _whole(browser, folder / "report.html", "sweep_page", dark=False)
        _whole(browser, folder / "report.html", "sweep_page_dark", dark=True)
        for key, width in _SWEEP.items():
            _figure(browser, folder / "report.html", key, key, width)
        for key, name in _POINT.items():
            _figure(browser, folder / "points" / f"{point}.html", key, name, 560)


def _whole(browser: Browser, path: Path, name: str, *, dark: bool) -> None:
    """The first screen, with a trial chosen where there is room for it."""
    watched = Watched(browser, 1000, 720, dark=dark)
    watched.page.goto(path.absolute().as_uri())
    watched.page.wait_for_selector("#figure-front .main-svg")
    watched.page.wait_for_timeout(500)
    watched.page.screenshot(path=PICTURES / f"{name}.png")
    assert watched.errors == []


def _figure(browser: Browser, path: Path, key: str, name: str, width: int) -> None:
    """One figure by its section's key; narrow, as two of them stand side by side."""
    watched = Watched(browser, width, 800)
    watched.page.goto(path.absolute().as_uri())
    figure = watched.page.locator(f"#figure-{key}")
    figure.scroll_into_view_if_needed()
    figure.locator(".main-svg").first.wait_for()
    watched.page.wait_for_timeout(800)
    figure.screenshot(path=PICTURES / f"{name}.png")
    assert watched.errors == []


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
