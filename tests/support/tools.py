"""Programs beside Python that some tests need: where they are, and what becomes of a test where they are not."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

UNAVAILABLE = "TEST_TOOLS_UNAVAILABLE"
"""Environment variable in which scripts/test hands on what scripts/test-tools could not install, blanks between."""


@dataclass(frozen=True)
class Tool:
    """A program that comes with a package of Debian's.

    Attributes:
        package: The package.
        names: What the program may be called; the first that is on PATH is taken.
    """

    package: str
    names: tuple[str, ...]

    @property
    def path(self) -> str | None:
        """Where it is."""
        return next(filter(None, map(shutil.which, self.names)), None)

    def require(self, env: Mapping[str, str] = os.environ) -> str:
        """Where it is; else the test is skipped, or fails where it runs in CI and nothing kept CI from installing it.

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
    """Mark tests as in need of a tool."""
    return pytest.mark.needs_tool(tool)
