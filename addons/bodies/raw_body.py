"""An answer whose own bytes do not say where it ends: that is for its message's framing to say."""

from collections.abc import Sequence

from addons.exchange.usage import Usage


class RawBodyReader:
    """Lets a body pass.

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
        """Take note that the message is complete; nothing was kept back."""
        return b""
