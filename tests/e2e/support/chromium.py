"""The browser of this machine, usually Debian's Chromium, driven by Playwright."""

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

from tests.e2e.support.processes import clean_env
from tests.support.tools import CHROMIUM

OPTIONS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")
"""Options with which it runs as root, in a container, and without prompts."""


@contextmanager
def running_chromium(*options: str) -> Iterator[Browser]:
    """A headless browser, for as long as the context lasts; `browser.new_context()` makes a separate profile.

    Args:
        options: What else is on its command line.
    """
    program = CHROMIUM.require()
    with sync_playwright() as playwright:
        # Playwright knows browsers of its own, which would have to be downloaded.
        env: dict[str, str | float | bool] = {**clean_env()}
        browser = playwright.chromium.launch(executable_path=program, args=[*OPTIONS, *options], env=env)
        try:
            yield browser
        finally:
            browser.close()
