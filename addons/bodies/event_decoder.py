"""Decodes server-sent events while they pass (WHATWG HTML, 9.2.6, "Interpreting an event stream").

Sans-I/O. A stream arrives in pieces, cut anywhere. It is split into lines, which end with LF, CRLF or CR, and the lines
are collected into events. `addons.bodies.sse_event` reads the response id, the token usage and the type of each event.

Memory is bounded: if a line is too long to keep, the value of a data field is passed to the event as it arrives, and
any other line is skipped.
"""

import enum
import re
from collections.abc import Iterator

from addons.bodies.sse_event import MAX_EVENT, SseEvent
from addons.bodies.stream_formats import EventFormat
from addons.exchange.usage import Usage

MAX_LINE = 64 * 1024
"""Bytes of a line above which only the parts of it that are read are kept."""

MAX_EVENT_TYPE = 128
"""Bytes of an event's type that are kept."""

type Line = tuple[bytes | None, int, int]
"""A complete line: its content, without line end and byte order mark, None if it was too long to keep; the offset of
its first byte in the current piece, negative if it began in an earlier piece; and the offset of its line end."""

BEGINNING_OF_DATA = re.compile(rb"data:[ \t]*")
"""A data field's name, and the white space before its value."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"[\r\n]")


class EventDecoder:
    """Decodes the events of one stream.

    Attributes:
        id: The response id in the first event that has one, once it has passed.
        usage: The token usage that the last event with a usage reports.
        line_size: Received bytes of the incomplete line, kept or not.
        event: The incomplete event, without the current line.
    """

    def __init__(self, event_format: EventFormat) -> None:
        """Begin before the first byte.

        Args:
            event_format: Where the events have ids and usages, and which types end a stream.
        """
        self._event_format = event_format
        self.id: str | None = None
        self.usage: Usage | None = None
        # What is kept of the incomplete line; and what happens to the rest of it.
        self._line = bytearray()
        self.line_size = 0
        self._rest: _Rest | None = None
        self.event = SseEvent(event_format)
        # From the line `event: …`, and from the data's own `type`: some clients use the one, some the other.
        self._event_type = self._data_type = b""
        self._at_start = True
        self._after_cr = False

    @property
    def is_between_events(self) -> bool:
        """Whether no line and no event is incomplete, so that the next bytes can be read without the earlier ones."""
        return not (self._line or self._rest is not None or self.event.lines or self._event_type or self._after_cr)

    @property
    def line_so_far(self) -> bytes:
        """What is kept of the incomplete line."""
        line = bytes(self._line)
        return line.removeprefix(_BYTE_ORDER_MARK) if self._at_start else line

    def lines(self, piece: bytes) -> Iterator[Line]:
        """Split the next piece into lines; each has to be passed to `read` before the next one is taken.

        A line that the piece does not complete is kept. If the iteration is stopped early, the rest of the stream
        cannot be decoded.

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
        """Read the content of a line.

        Returns:
            Whether this line tells a client that the event is one of those that end the stream.
        """
        is_last = self._read_line(line)
        if is_last:
            self._read_event()  # later lines do not belong to it
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
            if not self._data_type and any(mark in value for mark in self._event_format.last_events):
                self._data_type = self.event.type()
        elif line.startswith(b"event:"):
            self._event_type = line[6:].removeprefix(b" ")[:MAX_EVENT_TYPE]
        return bool(self.event.lines) and self._is_last

    @property
    def _is_last(self) -> bool:
        return not self._event_format.last_events.isdisjoint((self._event_type, self._data_type))

    def _read_event(self) -> None:
        event, self.event = self.event, SseEvent(self._event_format)
        if self.id is None:
            self.id = event.id()
        self.usage = event.usage(self.usage)


class _Rest(enum.Enum):
    """What the rest of a line is that is too long to keep."""

    OF_DATA = "the value of a data field, which is added to the event"
    OF_NO_INTEREST = "a field that is not read, or a comment"
