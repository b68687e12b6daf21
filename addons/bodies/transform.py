"""Transforms of bodies, and the digests at both sides of them.

A transform changes the bytes of a body while they pass, in either direction. It is sans-I/O: it receives the body in
pieces, cut anywhere, and returns what is sent on. A transform of JSON keeps what it needs between pieces, as
`addons.bodies.empty_tool_calls` does; a transform of events decodes them with `addons.bodies.event_decoder`.
"""

import hashlib
from collections.abc import Sequence
from typing import Protocol

MAX_LAG = 64 * 1024
"""Bytes that a transform may hold back before each side is hashed separately, if all bytes before are unchanged."""


class Transform(Protocol):
    """Changes a body as it passes.

    Attributes:
        changes_length: Whether the length of the body may change.
    """

    changes_length: bool

    def feed(self, piece: bytes) -> bytes:
        """Transform the next piece, of one byte or more; return what may be sent on now, perhaps nothing."""

    def end(self) -> bytes:
        """Note that the body is complete; return the rest."""


class TransformChain:
    """The transforms of one body, one after the other, and its SHA-256 before the first and after the last.

    As long as the body is unchanged, one hash serves both sides.
    """

    def __init__(self, transforms: Sequence[Transform], received_hash: "hashlib._Hash") -> None:
        """Begin before the first byte.

        Args:
            transforms: Applied in this order.
            received_hash: Updated with the received bytes.
        """
        self._transforms = transforms
        self.changes_length = any(transform.changes_length for transform in transforms)
        self._received_hash = received_hash
        # None while both sides have the same bytes, except for `_lag`: received and not sent on yet.
        self._sent_hash: hashlib._Hash | None = None
        self._lag = b""

    @property
    def digests(self) -> tuple[str, str]:
        """The SHA-256 of the received bytes, and of the bytes sent on, in lower-case hex."""
        sent = (self._sent_hash or self._received_hash).hexdigest()
        if self._sent_hash is not None:
            return self._received_hash.hexdigest(), sent
        if not self._lag:
            return sent, sent
        received = self._received_hash.copy()
        received.update(self._lag)
        return received.hexdigest(), sent

    def feed(self, piece: bytes) -> bytes:
        """Transform the next piece, of one byte or more; return what may be sent on now, perhaps nothing."""
        passing = piece
        for transform in self._transforms:
            if passing:
                passing = transform.feed(passing)
        self._update(piece, passing)
        return passing

    def end(self) -> bytes:
        """Note that the body is complete; return the rest."""
        rest = b""
        for transform in self._transforms:
            rest = (transform.feed(rest) if rest else b"") + transform.end()
        self._update(b"", rest)
        return rest

    def _update(self, came: bytes, passing: bytes) -> None:
        if self._sent_hash is None:
            if not self._lag and passing == came:
                self._received_hash.update(came)
                return
            lag = self._lag + came
            if lag.startswith(passing) and len(lag) - len(passing) <= MAX_LAG:
                self._received_hash.update(passing)
                self._lag = lag[len(passing) :]
                return
            self._sent_hash = self._received_hash.copy()
            came, self._lag = lag, b""
        self._received_hash.update(came)
        self._sent_hash.update(passing)
