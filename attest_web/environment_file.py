"""A file of settings, `NAME=value` a line, that goes before the environment and can be read again."""

import os
from pathlib import Path

from dotenv import dotenv_values

from attest_web.settings import SettingsError


class EnvironmentFile:
    """Puts what a file says into this process's environment, for itself and the processes that it starts."""

    def __init__(self, path: Path | None) -> None:
        """Take note of where the file is, and of the environment as it is without it.

        Args:
            path: The file; None where there is none.
        """
        self._path = path
        self._bare = dict(os.environ)

    def read(self) -> None:
        """Make the environment what the file says now. What it does not name any more is as it was before.

        Raises:
            SettingsError: It cannot be read.
        """
        if self._path is None:
            return
        try:
            with self._path.open(encoding="utf-8") as file:
                values = dotenv_values(stream=file, interpolate=False)
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise SettingsError([f"--env-file {self._path} cannot be read: {reason}"]) from None
        os.environ.clear()
        os.environ.update(self._bare | {name: value or "" for name, value in values.items()})
