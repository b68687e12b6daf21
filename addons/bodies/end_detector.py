"""Finds the end of a stream of server-sent events, and holds back the bytes that are, or may become, that end.

A client acts on `data: [DONE]` as soon as it receives it, and the signature must exist by then. So only `end` returns
that line and the few bytes after it. Where an event of a certain type ends the stream, as in `event: message_stop`, the
event may be long; there, only the line end that completes it is held back. All other bytes are returned at once,
unchanged and in order.

Sans-I/O; `addons.bodies.event_decoder` splits the bytes into lines and events.
"""

import re
from collections.abc import Sequence

from addons.bodies.event_decoder import BEGINNING_OF_DATA, EventDecoder
from addons.bodies.sse_event import USAGE, has_usage
from addons.bodies.stream_formats import EventFormat
from addons.exchange.usage import Usage

MAX_HELD = 64 * 1024
"""Most bytes after the end of the stream that are held back. If more follow, it was not the end. White space between
`data:` and `[DONE]` of a line is held back up to this number, too."""

_DONE = b"[DONE]"
# The OpenAI libraries treat a line that begins like this as the end, whatever follows on it.
_DONE_LINE = re.compile(rb"data:[ \t]*\[DONE\]")


class EndDetector:
    """Reads the server-sent events of one response, as an `addons.bodies.body_reader.BodyReader`.

    Attributes:
        finished: Whether the last event of the stream format has arrived, and not too much has followed it.
    """

    def __init__(self, event_format: EventFormat) -> None:
        """Begin before the first byte.

        Args:
            event_format: What ends the stream, and where the response id and the usage stand.
        """
        self.finished = False
        self._decoder = EventDecoder(event_format)
        self._ends_with_done = event_format.ends_with_done
        # Every piece that may be the last contains one of these.
        self._end_marks = (*([_DONE] if event_format.ends_with_done else []), *event_format.last_events)
        # The last bytes received, where they may become the end of the stream.
        self._kept_back = b""
        # Everything from the line that ends the stream on, once it has arrived.
        self._held: bytearray | None = None
        # Whether the id is known, and the next piece begins with a new event.
        self._may_pass = False

    @property
    def id(self) -> str | None:
        """The response id in the first event that has one, once it has passed."""
        return self._decoder.id

    @property
    def usage(self) -> Usage | None:
        """The token usage that the last event with a usage reports."""
        return self._decoder.usage

    def feed(self, piece: bytes) -> bytes:
        """Read the next piece of the stream, of one byte or more; return what may be sent on now, perhaps nothing."""
        if self.passing((piece,)):
            return piece
        if self._held is not None:
            return self._feed_after_end(self._held, piece)
        passing = self._feed_lines(piece)
        decoder = self._decoder
        self._may_pass = (
            not decoder.line_size and decoder.id is not None and self._held is None and decoder.is_between_events
        )
        return passing

    def passing(self, pieces: Sequence[bytes]) -> int:
        """How many of the next pieces, from the first on, are whole events that need not be read."""
        if not self._may_pass:
            return 0
        for number, piece in enumerate(pieces):
            # Most pieces are such events, so this has to be a few scans in C.
            if not piece.endswith((b"\n\n", b"\r\n\r\n")) or (USAGE in piece and has_usage(piece)):
                return number
            for mark in self._end_marks:
                if mark in piece:
                    return number
        return len(pieces)

    def end(self) -> bytes:
        """Note that the message is complete; return what was held back."""
        held = self._kept_back if self._held is None else bytes(self._held)
        self._kept_back = b""
        if self._held is not None:
            self._held.clear()
        return held

    def _feed_after_end(self, held: bytearray, piece: bytes) -> bytes:
        if self.finished and len(held) + len(piece) <= MAX_HELD:
            held += piece
            return b""
        # The stream continues after its end: it passes, and counts as not finished.
        self.finished = False
        kept = bytes(held)
        held.clear()
        return kept + piece

    def _feed_lines(self, piece: bytes) -> bytes:
        kept_before, self._kept_back = self._kept_back, b""
        came = kept_before + piece if kept_before else piece
        for line, start, end in self._decoder.lines(piece):
            if line is not None and self._is_done_line(line):
                return self._hold(came, max(0, len(kept_before) + start))
            if self._decoder.read(line):
                return self._hold(came, len(kept_before) + end)
        return self._hold_unended_line(came)

    def _hold_unended_line(self, came: bytes) -> bytes:
        """Hold back the part of an incomplete line that may be the end of the stream; return what may be sent on."""
        line_size = self._decoder.line_size
        if not line_size or not self._ends_with_done or not self._decoder.event.is_blank:
            return came
        line = self._decoder.line_so_far
        unsent = min(line_size, len(came))
        if _DONE_LINE.match(line):
            return self._hold(came, len(came) - unsent)
        kept = _may_become_done_line(line, unsent)
        if not kept:
            return came
        self._kept_back = came[-kept:]
        return came[:-kept]

    def _hold(self, came: bytes, at: int) -> bytes:
        self.finished = True
        self._held = bytearray(came[at:])
        return came[:at]

    def _is_done_line(self, line: bytes) -> bool:
        return self._ends_with_done and self._decoder.event.is_blank and _DONE_LINE.match(line) is not None


def _may_become_done_line(line: bytes, unsent: int) -> int:
    """How many of the last bytes received may become the end of the stream.

    Args:
        line: The received part of the line, in an event without data before it.
        unsent: Bytes of the line that have not been sent on yet.
    """
    if not line:
        return 0
    if b"data:".startswith(line):
        return unsent
    beginning = BEGINNING_OF_DATA.match(line)
    if beginning is None or not _DONE.startswith(line[beginning.end() :]):
        return 0
    return unsent if unsent <= MAX_HELD else len(line) - beginning.end()
