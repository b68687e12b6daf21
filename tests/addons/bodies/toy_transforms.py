"""Transforms that change bytes in strings of JSON, to test pipelines with transforms; no release uses them."""

import re
from collections.abc import Callable

from addons.bodies.event_decoder import EventDecoder
from addons.bodies.stream_formats import ANY

type Change = Callable[[bytes], bytes]
"""A change of the bytes of a string."""

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')


def swapped(text: bytes) -> bytes:
    """Swap x and y: the length stays."""
    return text.translate(bytes.maketrans(b"xy", b"yx"))


def doubled(text: bytes) -> bytes:
    """Replace z by zz: the length grows."""
    return text.replace(b"z", b"zz")


def in_strings(change: Change, json_text: bytes) -> bytes:
    """A JSON text with its strings changed."""
    return _STRING.sub(lambda found: change(found.group()), json_text)


class ToyJsonTransform:
    """Changes the strings of a JSON body, in pieces; only a backslash at the end of a piece waits for the next one."""

    def __init__(self, change: Change = swapped, *, changes_length: bool = False) -> None:
        self.changes_length = changes_length
        self._change = change
        self._in_string = False
        self._kept = b""

    def feed(self, piece: bytes) -> bytes:
        piece = self._kept + piece
        self._kept = piece[len(piece.rstrip(b"\\")) :] if piece.endswith(b"\\") else b""
        changed = []
        for part in re.findall(rb'\\.|"|[^"\\]+', piece.removesuffix(self._kept), re.DOTALL):
            self._in_string ^= part == b'"'
            changed.append(self._change(part) if self._in_string else part)
        return b"".join(changed)

    def end(self) -> bytes:
        return self._kept


class ToyEventTransform:
    """Changes the strings in the data of events, line by line; the rest of a stream is unchanged."""

    def __init__(self, change: Change = swapped, *, changes_length: bool = False) -> None:
        self.changes_length = changes_length
        self._change = change
        self._decoder = EventDecoder(ANY)
        self._line = b""

    def feed(self, piece: bytes) -> bytes:
        came, before = self._line + piece, len(self._line)
        changed, at = [], 0
        for line, start, end in self._decoder.lines(piece):
            self._decoder.read(line)
            changed += [came[at : before + start], self._changed(came[before + start : before + end])]
            at = before + end
        begun = len(came) - self._decoder.line_size
        self._line = came[begun:]
        return b"".join([*changed, came[at:begun]])

    def end(self) -> bytes:
        return self._changed(self._line)

    def _changed(self, line: bytes) -> bytes:
        return in_strings(self._change, line) if line.startswith(b"data:") else line
