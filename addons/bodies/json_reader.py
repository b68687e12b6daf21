"""Reads a JSON response while it passes.

The reader holds back what completes the JSON text, from its last bracket on, so that the signature is stored before the
client has the whole text. Bytes that cannot be the end are released at once: white space before the text, elements of
an array.

It also finds the `id` at the top level. Servers put it first, so the search ends after about 30 bytes; if it is last,
the body is scanned once, without being kept. Text that is not JSON gives no id and no error: it is passed on unchanged.
"""

import re
from collections.abc import Sequence

from addons.bodies.json_members import JsonMembers
from addons.bodies.usage_finder import UsageFinder
from addons.exchange.usage import Usage
from attest_web.response_ids import usable_id

MAX_KEPT = 128 * 1024
"""Most bytes that are held back. If more white space follows the text, nothing is held back any more."""

_ID = ("id",)
_ESCAPED = re.compile(rb"\\.", re.DOTALL)


class JsonReader:
    """Reads a body that is one JSON text.

    Attributes:
        finished: Always False: there is no last event.
    """

    def __init__(self) -> None:
        self.finished = False
        self._members = JsonMembers([_ID])
        self._usage = UsageFinder()
        self._brackets = _OpenBrackets()
        self._kept = b""
        # Whether more followed the text: then the body is not one JSON text, and only the message's end ends it.
        self._went_on = False

    @property
    def id(self) -> str | None:
        """Value of the first top-level member named `id`, once it has passed; None if it is no usable string."""
        return usable_id(self._members.found.get(_ID))

    @property
    def usage(self) -> Usage | None:
        """The token usage, when the whole body has passed; None if it reports none."""
        return self._usage.usage()

    def feed(self, piece: bytes) -> bytes:
        """Read the next piece of the body, of one byte or more; return what may be sent on now."""
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
        """How many of the next pieces need not be read: none, as the end of each may be that of the body."""
        return 0

    def end(self) -> bytes:
        """Note that the message is complete; return what was held back."""
        kept, self._kept = self._kept, b""
        return kept


class _OpenBrackets:
    """Counts the brackets of a JSON text that are open, outside of its strings."""

    def __init__(self) -> None:
        self._open = 0
        self._in_string = False
        self._escaped = False

    def closed_by(self, piece: bytes) -> bool:
        """Whether a piece contains a bracket and all brackets are closed at its end.

        No Python loop runs over the bytes. So a text that closes in the middle of a piece is not noticed if another one
        begins after it; it was not the end.
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
