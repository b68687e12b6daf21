"""What reads a response body while it passes, and decides when each byte of it may be sent on; and the plainest one."""

from collections.abc import Sequence
from typing import Protocol

from addons.exchange.usage import Usage


class BodyReader(Protocol):
    """Reads a body as it passes, and holds back what may be its end. Sans-I/O."""

    @property
    def id(self) -> str | None:
        """The response id, once it has passed, where there is one."""

    @property
    def finished(self) -> bool:
        """Whether the last event of a stream has come."""

    @property
    def usage(self) -> Usage | None:
        """The tokens, when the message is complete, where it has told of them."""

    def feed(self, piece: bytes) -> bytes:
        """Take the next piece, of one byte or more; return what may be sent on now, perhaps nothing."""

    def passing(self, pieces: Sequence[bytes]) -> int:
        """How many of the next pieces, from the first on, `feed` would return as they are, with nothing to note."""

    def end(self) -> bytes:
        """Take note that the message is complete; return the rest."""


class RawBodyReader:
    """Lets a body pass whose own bytes do not say where it ends: that is for its message's framing to say.

    Attributes:
        id: None; there is nothing to find one in.
        finished: Never: there is no last event.
        usage: None, too.
    """

    def __init__(self) -> None:
        self.id: str | None = None
        self.finished = False
        self.usage: Usage | None = None

    def feed(self, piece: bytes) -> bytes:
        """Take the next piece of the body, of one byte or more; return it."""
        return piece

    def passing(self, pieces: Sequence[bytes]) -> int:
        """How many of the next pieces need not be looked at: all."""
        return len(pieces)

    def end(self) -> bytes:
        """Take note that the message is complete; nothing was held back."""
        return b""
