"""A temporary directory that the processes of one proxy share."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def shared_directory() -> Iterator[Path]:
    """A directory that only this user can enter, in memory where the system has such a place; removed at the end."""
    memory = Path("/dev/shm")  # noqa: S108  # the directory made in it is private
    parent = memory if os.access(memory, os.W_OK | os.X_OK) else None
    with tempfile.TemporaryDirectory(prefix="tee-signer-", dir=parent, ignore_cleanup_errors=True) as directory:
        yield Path(directory)
