"""A real browser for the tests of the pages: Chromium as the system has it, driven by Playwright."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

_REQUIRED = "MONOCON_BROWSER"
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


def executable() -> str:
    """Skips the test where no browser is installed, unless the environment says that one has to be."""
    for name in _NAMES:
        if found := shutil.which(name):
            return found
    text = f"no browser is installed: none of {', '.join(_NAMES)}"
    if os.environ.get(_REQUIRED) == "required":
        pytest.fail(text)
    pytest.skip(text)


@contextlib.contextmanager
def open_browser() -> Iterator[Browser]:
    """Chromium without a window."""
    path = executable()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


class Watched:
    """A tab that keeps what goes wrong in it.

    Args:
        browser: where it is opened.
        width: of the window, in CSS pixels.
        height: the same.
        dark: whether the reader wants it dark.

    Attributes:
        page: the tab.
        errors: what was written to the console as an error, and what was thrown.
    """

    def __init__(
        self, browser: Browser, width: int = 1280, height: int = 800, *, dark: bool = False
    ) -> None:
        self.page: Page = browser.new_page(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
        )
        self.page.set_default_timeout(60_000)
        self.errors: list[str] = []
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _note(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    @property
    def overflow(self) -> int:
        """CSS pixels by which the page is wider than its window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))
