"""Programs besides Python that some tests need: their paths, and whether a test without them is skipped or fails."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

UNAVAILABLE = "TEST_TOOLS_UNAVAILABLE"
"""Environment variable with the tools that scripts/test-tools could not install, separated by spaces."""


@dataclass(frozen=True)
class Tool:
    """A program of a Debian package.

    Attributes:
        package: The package.
        names: What the program may be called; the first that is on PATH is taken.
    """

    package: str
    names: tuple[str, ...]

    @property
    def path(self) -> str | None:
        """Its path; None if it is missing."""
        return next(filter(None, map(shutil.which, self.names)), None)

    def require(self, env: Mapping[str, str] = os.environ) -> str:
        """Its path; if it is missing, the test is skipped, or fails in CI unless CI could not install it.

        Args:
            env: The environment.
        """
        if path := self.path:
            return path
        needed = f"there is no {' or '.join(self.names)}"
        if self.package in env.get(UNAVAILABLE, "").split():
            pytest.skip(f"{needed}, and it cannot be installed from here; as root, run: apt-get install {self.package}")
        if env.get("CI") == "true":
            pytest.fail(
                f"{needed}, which CI must have: scripts/test installs it, or says why it cannot be", pytrace=False
            )
        pytest.skip(f"{needed}: scripts/test-tools installs it")


CHROMIUM = Tool("chromium", ("chromium", "chromium-browser", "google-chrome"))
REDIS = Tool("redis-server", ("redis-server", "valkey-server"))
PROMTOOL = Tool("prometheus", ("promtool",))


def needs(tool: Tool) -> pytest.MarkDecorator:
    """Mark tests that need a tool."""
    return pytest.mark.needs_tool(tool)
