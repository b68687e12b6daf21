"""The browser of this machine, usually Debian's Chromium, driven by Playwright."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

from tests.e2e.processes import clean_env

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NO_CHROMIUM = "no browser here: apt-get install chromium"
OPTIONS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")
"""What lets it run as root, in a container, and without a question."""


@contextmanager
def running_chromium(*options: str) -> Iterator[Browser]:
    """A browser without a window, for as long as the context lasts; `browser.new_context()` is a profile of its own.

    Args:
        options: What else is on its command line.
    """
    assert CHROMIUM is not None, NO_CHROMIUM
    with sync_playwright() as playwright:
        # Playwright knows browsers of its own, which would have to be downloaded.
        env: dict[str, str | float | bool] = {**clean_env()}
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*OPTIONS, *options], env=env)
        try:
            yield browser
        finally:
            browser.close()
