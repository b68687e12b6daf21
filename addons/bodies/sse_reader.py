"""Server-sent events, read while they pass (WHATWG HTML, 9.2.6, "Interpreting an event stream").

The reader gets the bytes of a stream in whatever pieces they arrive and gives them back, unchanged and in order, to be
sent on. From every piece it gives back all that it can: it keeps only bytes that are, or may become, the end of the
stream. A client acts on `data: [DONE]` as soon as it has it, and by then the signature must exist; so that line, and
what little comes behind it, is given out by `end` alone. Where an event of a certain type ends the stream, as in
`event: message_stop`, it may be long; there, the line end by which a client would know is what is kept.

On the way it picks up the response id and the token usage; see `addons.bodies.sse_event`.
"""

import enum
import re
from collections.abc import Sequence

from addons.bodies.sse_event import MAX_EVENT, USAGE, SseEvent, has_usage
from addons.bodies.stream_formats import Dialect
from addons.exchange.usage import Usage

MAX_HELD = 64 * 1024
"""Bytes behind the end of the stream that are held back at most. With more, it was not the end. Blanks between a line's
`data:` and its `[DONE]` are held back up to this number, too."""

MAX_EVENT_TYPE = 128
"""Bytes of an event's type that are kept."""

_DONE = b"[DONE]"
# What the OpenAI libraries take for the end begins so, whatever comes behind it on the line.
_DONE_LINE = re.compile(rb"data:[ \t]*\[DONE\]")
_BEGINNING_OF_DATA = re.compile(rb"data:[ \t]*")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"[\r\n]")


class SseReader:
    """Reads the server-sent events of one response.

    Attributes:
        id: The response id in the first event that has one, once it has passed.
        usage: The tokens by the last event that tells of them.
        finished: Whether the last event of the stream's dialect has come and nothing speaks against its being the last.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        # One of these stands in every piece that may be the last.
        self._end_marks = (*([_DONE] if dialect.ends_with_done else []), *dialect.last_events)
        self.id: str | None = None
        self.usage: Usage | None = None
        self.finished = False
        # The line that has begun and not ended, as far as it is kept; and what comes of the rest.
        self._line = bytearray()
        self._rest: _Rest | None = None
        # The end of what has come, where it may become the end of the stream.
        self._kept_back = b""
        self._event = SseEvent(dialect)
        # By the line `event: …`, and by the data's own `type`: some clients go by the one, some by the other.
        self._event_type = self._data_type = b""
        self._at_start = True
        self._after_cr = False
        # Everything from the line that ends the stream on, once it has come.
        self._held: bytearray | None = None

    def feed(self, piece: bytes) -> bytes:
        """Take the next piece of the stream, of one byte or more; return what may be sent on now, perhaps nothing."""
        if self.passing((piece,)):
            return piece
        if self._held is not None:
            return self._feed_behind_end(self._held, piece)
        return self._feed_lines(piece)

    def passing(self, pieces: Sequence[bytes]) -> int:
        """How many of the next pieces, from the first on, are whole events of no interest, with nothing to note."""
        if (
            self.id is None
            or self._line
            or self._rest is not None
            or self._event.lines
            or self._event_type
            or self._after_cr
            or self._held is not None
        ):
            return 0
        for number, piece in enumerate(pieces):
            # Most are, so this has to be a few scans in C.
            if not piece.endswith((b"\n\n", b"\r\n\r\n")) or (USAGE in piece and has_usage(piece)):
                return number
            for mark in self._end_marks:
                if mark in piece:
                    return number
        return len(pieces)

    def end(self) -> bytes:
        """Take note that the message is complete; return what was kept back."""
        kept = self._kept_back if self._held is None else bytes(self._held)
        self._kept_back = b""
        if self._held is not None:
            self._held.clear()
        return kept

    def _feed_behind_end(self, held: bytearray, piece: bytes) -> bytes:
        if self.finished and len(held) + len(piece) <= MAX_HELD:
            held += piece
            return b""
        # Whatever this is, it goes on behind its end: it passes, and counts as not finished.
        self.finished = False
        kept = bytes(held)
        held.clear()
        return kept + piece

    def _feed_lines(self, piece: bytes) -> bytes:
        start = 0  # of the line, in piece
        kept_before, self._kept_back = self._kept_back, b""
        if self._after_cr and piece.startswith(b"\n"):
            start = 1
        self._after_cr = False
        for end in _LINE_END.finditer(piece, start):
            if end.start() < start:  # the \n of a \r\n
                continue
            began_before = bool(self._line) or self._rest is not None
            line = self._take_line(piece[start : end.start()])
            if line is not None and self._is_done_line(line):
                return self._hold(kept_before + piece, 0 if began_before else len(kept_before) + start)
            if self._read_line(line):
                self._read_event()  # nothing that comes still belongs to it
                return self._hold(kept_before + piece, len(kept_before) + end.start())
            start = end.end()
            if end.group() == b"\r":
                if start == len(piece):
                    self._after_cr = True
                elif piece[start] == 0x0A:
                    start += 1
        return self._begin_line(kept_before, piece, start)

    def _begin_line(self, kept_before: bytes, piece: bytes, start: int) -> bytes:
        """Take in the line whose end has not come, from `start` of the piece on; return what may be sent on."""
        came = kept_before + piece if kept_before else piece
        line_at = 0 if self._line else len(kept_before) + start
        self._keep_line(piece[start:])
        line = self._line_so_far()
        if self._is_done_line(line):
            return self._hold(came, line_at)
        kept = self._may_become_done_line(line, len(came) - line_at)
        if not kept:
            return came
        self._kept_back = came[-kept:]
        return came[:-kept]

    def _hold(self, passing: bytes, at: int) -> bytes:
        self.finished = True
        self._held = bytearray(passing[at:])
        return passing[:at]

    def _keep_line(self, part: bytes) -> None:
        if self._rest is _Rest.OF_DATA:
            self._event.add(part, continues=True)
        elif self._rest is None:
            self._line += part
            if len(self._line) > MAX_HELD:
                self._shorten_line()

    def _shorten_line(self) -> None:
        line = self._line_so_far()
        beginning = _BEGINNING_OF_DATA.match(line)
        if beginning is None:
            if len(line) > MAX_EVENT:  # no field that is read has so long a value
                self._line.clear()
                self._rest = _Rest.OF_NO_INTEREST
            return
        value = line[beginning.end() :]
        self._at_start = False
        self._line[:] = b"data:" + value  # the blanks before it mean nothing
        if len(value) > MAX_EVENT:
            self._line.clear()
            self._rest = _Rest.OF_DATA
            self._event.add(value)

    def _take_line(self, rest: bytes) -> bytes | None:
        """The whole line, given its rest; None where it is too long to keep."""
        line: bytes | None = rest
        if self._line or self._rest is not None:
            self._keep_line(rest)
            line = bytes(self._line) if self._rest is None else None
        if self._at_start and line is not None:
            line = line.removeprefix(_BYTE_ORDER_MARK)
        self._line.clear()
        self._rest = None
        self._at_start = False
        return line

    def _line_so_far(self) -> bytes:
        line = bytes(self._line)
        return line.removeprefix(_BYTE_ORDER_MARK) if self._at_start else line

    def _is_done_line(self, line: bytes) -> bool:
        return self._dialect.ends_with_done and self._event.is_blank and _DONE_LINE.match(line) is not None

    def _may_become_done_line(self, line: bytes, size: int) -> int:
        """How many bytes at the end of what has come may become the end of the stream.

        Args:
            line: What has come of the line.
            size: Its bytes that have not been sent on yet.
        """
        if not line or not self._dialect.ends_with_done or not self._event.is_blank:
            return 0
        if b"data:".startswith(line):
            return size
        beginning = _BEGINNING_OF_DATA.match(line)
        if beginning is None or not _DONE.startswith(line[beginning.end() :]):
            return 0
        return size if size <= MAX_HELD else len(line) - beginning.end()

    def _read_line(self, line: bytes | None) -> bool:
        """Take a line in; say whether by it a client knows that the stream is over."""
        if line is None:
            self._data_type = self._data_type or self._event.type()
        elif not line:
            is_last = self._is_last
            self._event_type = self._data_type = b""
            if self._event.lines:
                self._read_event()
            return is_last
        elif line.startswith(b"data:") or line == b"data":
            value = line[5:].removeprefix(b" ")
            self._event.add(value)
            if not self._data_type and any(mark in value for mark in self._dialect.last_events):
                self._data_type = self._event.type()
        elif line.startswith(b"event:"):
            self._event_type = line[6:].removeprefix(b" ")[:MAX_EVENT_TYPE]
        return bool(self._event.lines) and self._is_last

    @property
    def _is_last(self) -> bool:
        return not self._dialect.last_events.isdisjoint((self._event_type, self._data_type))

    def _read_event(self) -> None:
        event, self._event = self._event, SseEvent(self._dialect)
        if self.id is None:
            self.id = event.id()
        self.usage = event.usage(self.usage)


class _Rest(enum.Enum):
    """What the rest of a line is, of which too much has come to keep it."""

    OF_DATA = "the value of a data field, which the event takes in"
    OF_NO_INTEREST = "a field that is not read, or a comment"
