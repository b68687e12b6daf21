"""A file in memory only: for secrets that a library takes by path, and other processes by descriptor."""

import fcntl
import os
import weakref
from pathlib import Path


class MemoryFile:
    """A sealed file without a name in any directory (memfd_create(2)); nothing can change it.

    It is open as long as this object exists, and exists as long as any process has it open. A child process has it
    only if its descriptor is passed.
    """

    def __init__(self, descriptor: int) -> None:
        """Own a descriptor, e.g. one that another process has sent.

        Args:
            descriptor: Of a file that `MemoryFile.holding` made.
        """
        os.set_inheritable(descriptor, False)
        self._descriptor = descriptor
        # Not at the interpreter's end, when other threads may still read by the path.
        weakref.finalize(self, os.close, descriptor).atexit = False

    @classmethod
    def holding(cls, content: bytes, name: str) -> "MemoryFile":
        """Make a file.

        Args:
            content: Its content, which cannot change.
            name: Shown in /proc among the process's open files.

        Raises:
            OSError: The kernel cannot make it.
        """
        made = cls(os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
        with os.fdopen(made.fileno(), "wb", closefd=False) as file:
            file.write(content)
        seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        fcntl.fcntl(made.fileno(), fcntl.F_ADD_SEALS, seals)
        return made

    @property
    def path(self) -> Path:
        """A path to it, valid in this process only."""
        return Path(f"/proc/self/fd/{self._descriptor}")

    def fileno(self) -> int:
        """Its descriptor."""
        return self._descriptor
