"""A JSON answer, read while it passes.

The reader keeps back what may be the end of the JSON, from the last bracket on, so that the signature can be there
before the client has the whole. On the way it finds the `id` at the top level. Servers put it first, so the search is
over after some 30 bytes and costs nothing from then on; where it comes last, the body is scanned once, without being
kept. What is not JSON gives no id and no error: the bytes are the client's to judge.
"""

import json
import re
from collections.abc import Sequence

from addons.dialects import MAX_ID, usable_id
from addons.usage import Usage, UsageFinder

_NEXT_AT_TOP = re.compile(rb'["{}\[\]:,]')
_NEXT_DEEPER = re.compile(rb'["{}\[\]]')
_NEXT_IN_STRING = re.compile(rb'["\\]')
_MAX_QUOTED = 6 * MAX_ID  # every character written as \uXXXX


MAX_KEPT = 128 * 1024
"""Bytes that are kept back at most. With more white space than that behind it, nobody waits for the end."""


class JsonReader:
    """Reads a body that is one JSON object.

    Attributes:
        id: Value of the first top-level member named `id`, where that is a string, once it has passed.
        finished: Whether the message is complete.
    """

    def __init__(self) -> None:
        self.id: str | None = None
        self.finished = False
        self._kept = b""
        self._done = False
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._is_key = False
        self._key_is_id = False
        # What the string at hand holds so far, still escaped; None where nobody will look at it.
        self._string: bytearray | None = None
        self._usage = UsageFinder()

    @property
    def usage(self) -> Usage | None:
        """The tokens, when all has passed, where there is a `usage` that tells of them."""
        return self._usage.usage()

    def feed(self, piece: bytes) -> bytes:
        """Take the next piece of the body, of one byte or more; return what may be sent on now."""
        self._usage.feed(piece)
        at = 0
        while not self._done and at < len(piece):
            at = self._read_string(piece, at) if self._in_string else self._read_structure(piece, at)
        # The JSON is complete with its last bracket, whatever white space comes behind.
        bracket = max(piece.rfind(b"}"), piece.rfind(b"]"))
        if bracket < 0 and piece.isspace() and len(self._kept) + len(piece) <= MAX_KEPT:
            self._kept += piece
            return b""
        keep_from = bracket if bracket >= 0 else len(piece) - 1
        released = self._kept + piece[:keep_from]
        self._kept = piece[keep_from:]
        return released

    def passing(self, pieces: Sequence[bytes]) -> int:  # noqa: ARG002
        """How many of the next pieces need not be looked at: none, as the end of each may be that of the body."""
        return 0

    def end(self) -> bytes:
        """Take note that the message is complete; return what was kept back."""
        self.finished = True
        kept, self._kept = self._kept, b""
        return kept

    def _read_string(self, piece: bytes, at: int) -> int:
        if self._escaped:
            self._escaped = False
            self._keep(piece[at : at + 1])
            return at + 1
        found = _NEXT_IN_STRING.search(piece, at)
        if found is None:
            self._keep(piece[at:])
            return len(piece)
        self._keep(piece[at : found.start()])
        if found.group() == b"\\":
            self._escaped = True
            self._keep(b"\\")
        else:
            self._in_string = False
            self._take_string()
        return found.end()

    def _keep(self, part: bytes) -> None:
        if self._string is not None:
            self._string += part
            if len(self._string) > _MAX_QUOTED:
                self._string = None

    def _take_string(self) -> None:
        if self._depth != 1:
            return
        value = None
        if self._string is not None:
            try:
                value = json.loads(b'"%s"' % self._string)
            except ValueError:  # not JSON after all
                value = None
        if self._is_key:
            self._key_is_id = value == "id"
        elif self._key_is_id:
            self.id = usable_id(value)
            self._done = True

    def _read_structure(self, piece: bytes, at: int) -> int:
        found = (_NEXT_AT_TOP if self._depth == 1 else _NEXT_DEEPER).search(piece, at)
        if found is None:
            return len(piece)
        mark = found.group()
        if mark == b'"':
            self._in_string = True
            self._string = bytearray() if self._depth == 1 and (self._is_key or self._key_is_id) else None
            self._done = self._depth == 0  # a string on its own, not an object
        elif mark in b"{[":
            self._depth += 1
            if self._depth == 1:
                self._is_key = True
                self._done = mark == b"["
        elif mark in b"}]":
            self._depth -= 1
            self._done = self._depth <= 0
        elif mark == b":":
            self._is_key = False
        else:
            self._is_key = True
            self._key_is_id = False
        return found.end()
