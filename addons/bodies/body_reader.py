"""Readers of response bodies: they read a body while it passes and decide when each byte may be sent on."""

from collections.abc import Sequence
from typing import Protocol

from addons.exchange.usage import Usage


class BodyReader(Protocol):
    """Reads a body as it passes, and holds back the bytes that may be its end. Sans-I/O."""

    @property
    def id(self) -> str | None:
        """The response id, once it has passed; None if the body has none."""

    @property
    def finished(self) -> bool:
        """Whether the last event of a stream has come."""

    @property
    def usage(self) -> Usage | None:
        """The token usage, when the message is complete; None if the body reports none."""

    def feed(self, piece: bytes) -> bytes:
        """Read the next piece, of one byte or more; return the bytes that may be sent on now, perhaps none."""

    def passing(self, pieces: Sequence[bytes]) -> int:
        """How many of the next pieces, from the first on, `feed` would return unchanged and without any effect."""

    def end(self) -> bytes:
        """Note that the message is complete; return the rest."""


class RawBodyReader:
    """Passes a body unread. Only the framing of the message tells where it ends.

    Attributes:
        id: Always None.
        finished: Always False: there is no last event.
        usage: Always None.
    """

    def __init__(self) -> None:
        self.id: str | None = None
        self.finished = False
        self.usage: Usage | None = None

    def feed(self, piece: bytes) -> bytes:
        """Return the next piece of the body, of one byte or more."""
        return piece

    def passing(self, pieces: Sequence[bytes]) -> int:
        """How many of the next pieces need not be read: all."""
        return len(pieces)

    def end(self) -> bytes:
        """Note that the message is complete; nothing was held back."""
        return b""
