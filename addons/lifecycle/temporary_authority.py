"""A directory for mitmproxy's certificate authority, if its own (`confdir`) cannot be written.

mitmproxy makes an authority at a start that finds none. Only clients that use TLS with a proxy without `--certs` get a
certificate from it, and no client trusts that. So a missing or read-only home directory, as in many containers, must
not prevent the start.
"""

import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Self

from attest_web.settings import SettingsError

logger = logging.getLogger(__name__)

AUTHORITY_FILE = "mitmproxy-ca.pem"
"""File name of mitmproxy's authority in `confdir`."""


class TemporaryAuthority:
    """A temporary directory for mitmproxy's authority, which is removed at the end."""

    def __init__(self, directory: Path) -> None:
        """Use a directory.

        Args:
            directory: An empty directory of this process.
        """
        self._directory = directory

    @classmethod
    def where_needed(cls, confdir: str) -> Self | None:
        """Make a temporary directory, unless mitmproxy can use its own.

        Args:
            confdir: mitmproxy's option of that name.

        Raises:
            SettingsError: No temporary directory can be made either.
        """
        wanted = Path(confdir).expanduser()
        if _is_usable(wanted):
            return None
        try:
            directory = Path(tempfile.mkdtemp(prefix="tee-signer-"))
        except OSError as error:
            problem = (
                f"neither {wanted} nor a temporary directory can be written ({error.strerror}): "
                "name a directory for mitmproxy's certificates with --set confdir=DIR"
            )
            raise SettingsError([problem]) from None
        logger.info(
            "%s cannot be written: mitmproxy's certificate authority is kept in %s, until the end. No client needs it; "
            "for another directory, use --set confdir=DIR",
            wanted,
            directory,
        )
        return cls(directory)

    def options(self) -> dict[str, Any]:
        """The required values of mitmproxy's options."""
        return {"confdir": str(self._directory)}

    def done(self) -> None:
        """Remove the directory."""
        shutil.rmtree(self._directory, ignore_errors=True)


def _is_usable(directory: Path) -> bool:
    if os.access(directory / AUTHORITY_FILE, os.R_OK):
        return True
    try:
        directory.mkdir(parents=True, exist_ok=True)  # as mitmproxy would
    except OSError:
        return False
    return os.access(directory, os.W_OK | os.X_OK)
