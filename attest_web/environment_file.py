"""A file of settings, one `NAME=value` per line, which takes precedence over the environment and can be re-read."""

import os
from pathlib import Path

from dotenv.parser import Binding, parse_stream

from attest_web.settings import SettingsError


class EnvironmentFile:
    """Applies a file of settings to this process's environment, for itself and its child processes."""

    def __init__(self, path: Path | None) -> None:
        """Keep the file's path, and a copy of the environment without it.

        Args:
            path: The file; None without one.
        """
        self._path = path
        self._bare = dict(os.environ)

    def read(self) -> None:
        """Apply the file's current content. Variables that were removed from the file get their former values.

        Raises:
            SettingsError: It cannot be read.
        """
        if self._path is None:
            return
        try:
            with self._path.open(encoding="utf-8") as file:
                lines = list(parse_stream(file))
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise SettingsError([f"--env-file {self._path} cannot be read: {reason}"]) from None
        wrong = [
            f"--env-file {self._path} cannot be read: line {_number(line)} is not of the form NAME=value"
            for line in lines
            if line.error or (line.key is not None and line.value is None)
        ]
        if wrong:  # dotenv would skip these lines, and one of them may be a limit or a token
            raise SettingsError(wrong)
        os.environ.clear()
        os.environ.update(self._bare | {line.key: line.value or "" for line in lines if line.key is not None})


def _number(line: Binding) -> int:
    """The number of a line; dotenv counts the empty lines before it as part of it."""
    text = line.original.string
    return line.original.line + text[: len(text) - len(text.lstrip())].count("\n")
