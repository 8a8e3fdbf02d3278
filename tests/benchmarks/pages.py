"""How long the page of a large sweep takes: to be drawn, and to open in Chromium.

The floor of opening is a page with plotly.js and one point, in the same browser.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser

sys.path.insert(0, str(Path(__file__).parents[1]))

from browser import open_browser
from stories import large_events, small_story

from dashboards.sweep_page import render
from dashboards.sweep_story import SweepStory
from orchestrator.pages import SWEEP_PAGE

NUM_TRIALS, NUM_POINTS = 5000, 40
_REPEATS = 5


def run() -> None:
    """Prints the figures."""
    started = time.perf_counter()
    events = list(large_events(NUM_TRIALS, NUM_POINTS))
    made = time.perf_counter()
    story = SweepStory(events)
    folded = time.perf_counter()
    files = render(story, {})
    drawn = time.perf_counter()
    num_points = sum(len(trial.points) for trial in story.record.trials.values())
    print(f"pages: {NUM_TRIALS:,} trials, {num_points:,} points (events made in {made - started:.0f} s)")
    print(f"  read from its events     {folded - made:6.1f} s")
    print(f"  drawn                    {drawn - folded:6.1f} s, {len(files[SWEEP_PAGE]) / 1e6:.1f} MB")
    with tempfile.TemporaryDirectory() as name, open_browser() as browser:
        large, small = Path(name) / "large.html", Path(name) / "small.html"
        large.write_bytes(files[SWEEP_PAGE])
        small.write_bytes(render(small_story(), {})[SWEEP_PAGE])
        times = {path.stem: _opening(browser, path) for path in (small, large)}
    floor, ours = (statistics.median(times[name]) for name in ("small", "large"))
    spread = f"{min(times['large']):.2f} to {max(times['large']):.2f}"
    print(f"  opened to the front      {ours:6.2f} s ({spread}, n = {_REPEATS})")
    print(f"  the same of 3 trials     {floor:6.2f} s: the large one takes {ours / floor:.2f}x")


def _opening(browser: Browser, path: Path) -> list[float]:
    """Seconds from the address to the front's last point, in a new tab each."""
    times = []
    for _ in range(_REPEATS):
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        started = time.perf_counter()
        page.goto(path.as_uri(), wait_until="commit")
        page.wait_for_selector("#figure-front .main-svg .scatterlayer path.point", state="attached")
        times.append(time.perf_counter() - started)
        page.close()
    return times


if __name__ == "__main__":
    run()
