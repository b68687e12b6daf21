"""Decodes server-sent events while they pass (WHATWG HTML, 9.2.6, "Interpreting an event stream").

Sans-I/O. A stream comes in pieces, cut anywhere. It is parted into lines, which end with LF, CRLF or CR, and the lines
are collected to events. Of each event, `addons.bodies.sse_event` reads what matters: the response id, the token usage,
and the type.

Memory is bounded: of a line that is too long to keep, the value of a data field goes to the event as it comes, and
everything else is skipped.
"""

import enum
import re
from collections.abc import Iterator

from addons.bodies.sse_event import MAX_EVENT, SseEvent
from addons.bodies.stream_formats import Dialect
from addons.exchange.usage import Usage

MAX_LINE = 64 * 1024
"""Bytes of a line from which on it is checked what of it is worth keeping."""

MAX_EVENT_TYPE = 128
"""Bytes of an event's type that are kept."""

type Line = tuple[bytes | None, int, int]
"""A complete line: its content, without line end and byte order mark, None where it was too long to keep; the offset of
its first byte in the piece at hand, negative where it began in an earlier piece; and the offset of its line end."""

BEGINNING_OF_DATA = re.compile(rb"data:[ \t]*")
"""A data field's name, and the blanks before its value."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"[\r\n]")


class EventDecoder:
    """Decodes the events of one stream.

    Attributes:
        id: The response id in the first event that has one, once it has passed.
        usage: The tokens by the last event that tells of them.
        line_size: Bytes that have come of the line that has begun and not ended, whether they are kept or not.
        event: The event that has begun and not ended, as far as it has come, the line at hand left aside.
    """

    def __init__(self, dialect: Dialect) -> None:
        """Begin before the first byte.

        Args:
            dialect: Where ids and usages stand, and which types end a stream.
        """
        self._dialect = dialect
        self.id: str | None = None
        self.usage: Usage | None = None
        # The line that has begun and not ended, as far as it is kept; and what comes of the rest.
        self._line = bytearray()
        self.line_size = 0
        self._rest: _Rest | None = None
        self.event = SseEvent(dialect)
        # By the line `event: …`, and by the data's own `type`: some clients go by the one, some by the other.
        self._event_type = self._data_type = b""
        self._at_start = True
        self._after_cr = False

    @property
    def is_between_events(self) -> bool:
        """Whether no line and no event has begun, so that what comes next is read by itself."""
        return not (self._line or self._rest is not None or self.event.lines or self._event_type or self._after_cr)

    @property
    def line_so_far(self) -> bytes:
        """What is kept of the line that has begun and not ended."""
        line = bytes(self._line)
        return line.removeprefix(_BYTE_ORDER_MARK) if self._at_start else line

    def lines(self, piece: bytes) -> Iterator[Line]:
        """Part the next piece into lines; each is to be handed to `read` before the next one is taken.

        The line that the piece does not end is kept. Where the iteration is given up, the rest of the stream cannot be
        decoded.

        Args:
            piece: Of one byte or more.
        """
        start = 1 if self._after_cr and piece.startswith(b"\n") else 0  # of the line, in the piece
        self._after_cr = False
        for end in _LINE_END.finditer(piece, start):
            if end.start() < start:  # the \n of a \r\n
                continue
            size = self.line_size
            yield self._take_line(piece[start : end.start()]), start - size, end.start()
            start = end.end()
            if end.group() == b"\r":
                if start == len(piece):
                    self._after_cr = True
                elif piece[start] == 0x0A:
                    start += 1
        self._keep_line(piece[start:])

    def read(self, line: bytes | None) -> bool:
        """Take in the content of a line.

        Returns:
            Whether by this line a client knows that the event is one of those that end the stream.
        """
        is_last = self._read_line(line)
        if is_last:
            self._read_event()  # nothing that comes still belongs to it
        return is_last

    def _keep_line(self, part: bytes) -> None:
        self.line_size += len(part)
        if self._rest is _Rest.OF_DATA:
            self.event.add(part, continues=True)
        elif self._rest is None:
            self._line += part
            if len(self._line) > MAX_LINE:
                self._shorten_line()

    def _shorten_line(self) -> None:
        line = self.line_so_far
        beginning = BEGINNING_OF_DATA.match(line)
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
            self.event.add(value)

    def _take_line(self, rest: bytes) -> bytes | None:
        """The whole line, given its rest; None where it is too long to keep."""
        line: bytes | None = rest
        if self._line or self._rest is not None:
            self._keep_line(rest)
            line = bytes(self._line) if self._rest is None else None
        if self._at_start and line is not None:
            line = line.removeprefix(_BYTE_ORDER_MARK)
        self._line.clear()
        self.line_size = 0
        self._rest = None
        self._at_start = False
        return line

    def _read_line(self, line: bytes | None) -> bool:
        if line is None:
            self._data_type = self._data_type or self.event.type()
        elif not line:
            is_last = self._is_last
            self._event_type = self._data_type = b""
            if self.event.lines:
                self._read_event()
            return is_last
        elif line.startswith(b"data:") or line == b"data":
            value = line[5:].removeprefix(b" ")
            self.event.add(value)
            if not self._data_type and any(mark in value for mark in self._dialect.last_events):
                self._data_type = self.event.type()
        elif line.startswith(b"event:"):
            self._event_type = line[6:].removeprefix(b" ")[:MAX_EVENT_TYPE]
        return bool(self.event.lines) and self._is_last

    @property
    def _is_last(self) -> bool:
        return not self._dialect.last_events.isdisjoint((self._event_type, self._data_type))

    def _read_event(self) -> None:
        event, self.event = self.event, SseEvent(self._dialect)
        if self.id is None:
            self.id = event.id()
        self.usage = event.usage(self.usage)


class _Rest(enum.Enum):
    """What the rest of a line is, of which too much has come to keep it."""

    OF_DATA = "the value of a data field, which the event takes in"
    OF_NO_INTEREST = "a field that is not read, or a comment"
