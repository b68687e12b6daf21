"""Reads a JSON response while it passes.

The reader holds back what completes the JSON text, from its last bracket on, so that the signature is stored before the
client has the whole text. All that cannot be the end is released at once: white space before the text, elements of an
array.
On the way it finds the `id` at the top level. Servers put it first, so the search is over after some 30 bytes; where it
comes last, the body is scanned once, without being kept. What is not JSON gives no id and no error: the bytes are the
client's to judge.
"""

import re
from collections.abc import Sequence

from addons.bodies.json_members import JsonMembers
from addons.bodies.usage_finder import UsageFinder
from addons.exchange.usage import Usage
from attest_web.response_ids import usable_id

MAX_KEPT = 128 * 1024
"""Bytes that are held back at most. With more white space than that after the text, the end is not waited for."""

_ID = ("id",)
_ESCAPED = re.compile(rb"\\.", re.DOTALL)


class JsonReader:
    """Reads a body that is one JSON text.

    Attributes:
        finished: Never: there is no last event.
    """

    def __init__(self) -> None:
        self.finished = False
        self._members = JsonMembers([_ID])
        self._usage = UsageFinder()
        self._brackets = _OpenBrackets()
        self._kept = b""
        # Whether more came after the text: then it is none, and only the end of the message can be its end.
        self._went_on = False

    @property
    def id(self) -> str | None:
        """Value of the first top-level member named `id`, where that is a usable string, once it has passed."""
        return usable_id(self._members.found.get(_ID))

    @property
    def usage(self) -> Usage | None:
        """The tokens, when all has passed, where there is a `usage` that tells of them."""
        return self._usage.usage()

    def feed(self, piece: bytes) -> bytes:
        """Take the next piece of the body, of one byte or more; return what may be sent on now."""
        self._usage.feed(piece)
        if not self._members.done:
            self._members.feed(piece)
        if self._went_on:
            return piece
        if self._kept:
            if piece.isspace() and len(self._kept) + len(piece) <= MAX_KEPT:
                self._kept += piece
                return b""
            self._went_on = True
            kept, self._kept = self._kept, b""
            return kept + piece
        if not self._brackets.closed_by(piece):
            return piece
        end = max(piece.rfind(b"}"), piece.rfind(b"]"))
        self._kept = piece[end:]
        return piece[:end]

    def passing(self, pieces: Sequence[bytes]) -> int:  # noqa: ARG002
        """How many of the next pieces need not be looked at: none, as the end of each may be that of the body."""
        return 0

    def end(self) -> bytes:
        """Take note that the message is complete; return what was held back."""
        kept, self._kept = self._kept, b""
        return kept


class _OpenBrackets:
    """Counts the brackets of a JSON text that are open, outside of its strings."""

    def __init__(self) -> None:
        self._open = 0
        self._in_string = False
        self._escaped = False

    def closed_by(self, piece: bytes) -> bool:
        """Whether a piece has a bracket in it and ends where all are closed.

        No loop in Python goes over the bytes. So a text that closes in the middle of a piece is not noticed where
        another begins after it: that was not the end.
        """
        if self._escaped:
            piece = piece[1:]
            self._escaped = False
        if b"\\" in piece:
            piece = _ESCAPED.sub(b"", piece)
            self._escaped = piece.endswith(b"\\")
        parts = piece.split(b'"')
        outside = b"".join(parts[self._in_string :: 2])
        self._in_string ^= not len(parts) % 2
        opened = outside.count(b"{") + outside.count(b"[")
        closed = outside.count(b"}") + outside.count(b"]")
        self._open += opened - closed
        return closed > 0 and self._open <= 0 and not self._in_string
