"""An answer that says nothing about itself."""

from collections.abc import Sequence

from addons.usage import Usage


class OpaqueReader:
    """Lets a body pass, but for its last byte, which waits for the end of the message.

    Attributes:
        id: None; there is nothing to find one in.
        finished: Whether the message is complete.
        usage: None, too.
    """

    def __init__(self) -> None:
        self.id: str | None = None
        self.finished = False
        self.usage: Usage | None = None
        self._kept = b""

    def feed(self, piece: bytes) -> bytes:
        """Take the next piece of the body, of one byte or more; return what may be sent on now."""
        released = self._kept + piece[:-1]
        self._kept = piece[-1:]
        return released

    def passing(self, pieces: Sequence[bytes]) -> int:  # noqa: ARG002
        """How many of the next pieces need not be looked at: none, as the end of each may be that of the body."""
        return 0

    def end(self) -> bytes:
        """Take note that the message is complete; return what was kept back."""
        self.finished = True
        return self._kept
