"""Server-sent events, read while they pass (WHATWG HTML, 9.2.6, "Interpreting an event stream").

The reader gets the bytes of a stream in whatever pieces they arrive and gives them back, unchanged and in order, to be
sent on. From every piece it gives back all that it can: it keeps only bytes that are, or may become, the end of the
stream. A client acts on `data: [DONE]` as soon as it has it, and by then the signature must exist; so that line, and
what little comes behind it, is given out by `end` alone. Where an event of a certain type ends the stream, as in
`event: message_stop`, it may be long; there, the line end by which a client would know is what is kept.

On the way it picks up the response id and the token usage. JSON is parsed only in events that can matter: those before
the id is known, and those that have usage in them.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from addons.dialects import Dialect
from addons.usage import Usage

MAX_EVENT = 256 * 1024
"""Bytes of an event that are kept for reading at most. A longer one passes all the same, unread."""

MAX_HELD = 64 * 1024
"""Bytes behind the end of the stream that are held back at most. With more, it was not the end."""

MAX_EVENT_TYPE = 128
"""Bytes of an event's type that are kept."""

_DONE_LINES = (b"data: [DONE]", b"data:[DONE]")
_LONGEST_DONE_LINE = max(map(len, _DONE_LINES))
_USAGE = b'"usage"'
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"[\r\n]")


class SseReader:
    """Reads the server-sent events of one response.

    Attributes:
        id: The response id in the first event that has one, once it has passed.
        usage: The tokens by the last event that tells of them.
        finished: Whether the end of the stream has come and nothing speaks against its being the end.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        # One of these stands in every piece that may be the last.
        self._end_marks = (*([b"[DONE]"] if dialect.ends_with_done else []), *dialect.last_events)
        self.id: str | None = None
        self.usage: Usage | None = None
        self.finished = False
        # The line that has begun and not ended, and whether it was too long to keep.
        self._line = bytearray()
        self._line_too_long = False
        # How many bytes at the end of _line have been kept back: all of them or none.
        self._held_line = 0
        # The data of the event that has begun, as far as it is worth reading.
        self._data: list[bytes] = []
        self._data_lines = 0
        self._data_size = 0
        self._event_type = b""
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
            or self._line_too_long
            or self._data_lines
            or self._event_type
            or self._after_cr
            or self._held is not None
        ):
            return 0
        for number, piece in enumerate(pieces):
            # Most are, so this has to be a few scans in C.
            if not piece.endswith((b"\n\n", b"\r\n\r\n")) or (_USAGE in piece and _has_usage(piece)):
                return number
            for mark in self._end_marks:
                if mark in piece:
                    return number
        return len(pieces)

    def end(self) -> bytes:
        """Take note that the message is complete; return what was kept back."""
        if self._held is None:
            kept = bytes(self._line[len(self._line) - self._held_line :])
            line = self._take_line(b"")
            self.finished = line is not None and self._is_done_line(line)
        else:
            kept = bytes(self._held)
            self._held.clear()
        self.finished = self.finished or self._dialect.ends_with_message
        self._held_line = 0
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
        kept_before = bytes(self._line[len(self._line) - self._held_line :])
        self._held_line = 0
        if self._after_cr and piece.startswith(b"\n"):
            start = 1
        self._after_cr = False
        for end in _LINE_END.finditer(piece, start):
            if end.start() < start:  # the \n of a \r\n
                continue
            began_before = bool(self._line) or self._line_too_long
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
        self._keep_line(piece[start:])
        released = len(piece)
        if self._may_become_done_line():
            if start == 0:  # nothing but more of the line that has been kept back, or was begun just now
                self._held_line = len(kept_before) + len(piece)
                return b""
            self._held_line = len(piece) - start
            released = start
        return kept_before + piece[:released]

    def _hold(self, passing: bytes, at: int) -> bytes:
        self.finished = True
        self._held = bytearray(passing[at:])
        return passing[:at]

    def _keep_line(self, part: bytes) -> None:
        if self._line_too_long:
            return
        self._line += part
        if len(self._line) > MAX_EVENT:
            self._line.clear()
            self._line_too_long = True

    def _take_line(self, rest: bytes) -> bytes | None:
        """The whole line, given its rest; None where it was too long to keep."""
        if self._line:
            self._keep_line(rest)
            line: bytes | None = None if self._line_too_long else bytes(self._line)
        else:
            line = None if self._line_too_long else rest
        self._line.clear()
        self._line_too_long = False
        if self._at_start and line is not None:
            line = line.removeprefix(_BYTE_ORDER_MARK)
        self._at_start = False
        return line

    def _is_done_line(self, line: bytes) -> bool:
        return self._dialect.ends_with_done and line in _DONE_LINES and not self._data_lines

    def _may_become_done_line(self) -> bool:
        if not self._line or not self._dialect.ends_with_done or self._data_lines:
            return False
        line = bytes(self._line[: len(_BYTE_ORDER_MARK) + _LONGEST_DONE_LINE + 1])
        if self._at_start:
            line = line.removeprefix(_BYTE_ORDER_MARK)
        return bool(line) and any(done.startswith(line) for done in _DONE_LINES)

    def _read_line(self, line: bytes | None) -> bool:
        """Take a line in; say whether by it a client knows that the stream is over."""
        if line is None:
            self._data_lines += 1
            self._data_size = MAX_EVENT + 1
        elif not line:
            is_last = self._event_type in self._dialect.last_events
            self._event_type = b""
            if self._data_lines:
                self._read_event()
            return is_last
        elif line.startswith(b"data:") or line == b"data":
            value = line[5:].removeprefix(b" ")
            self._data_lines += 1
            self._data_size += len(value) + 1
            if self._data_size <= MAX_EVENT:
                self._data.append(value)
                if not self._event_type and any(mark in value for mark in self._dialect.last_events):
                    self._event_type = self._type_in_data()
        elif line.startswith(b"event:"):
            self._event_type = line[6:].removeprefix(b" ")[:MAX_EVENT_TYPE]
        return bool(self._data_lines) and self._event_type in self._dialect.last_events

    def _type_in_data(self) -> bytes:
        event = _json_object(b"\n".join(self._data))
        found = event.get("type") if event is not None else None
        return found.encode("utf-8", "replace") if isinstance(found, str) else b""

    def _read_event(self) -> None:
        data = b"\n".join(self._data)
        readable = self._data_size <= MAX_EVENT
        self._data.clear()
        self._data_lines = self._data_size = 0
        if not readable:
            return
        has_id = self.id is None and b'"id"' in data
        event = _json_object(data) if has_id or _has_usage(data) else None
        if event is None:
            return
        if self.id is None:
            self.id = self._dialect.id_of(event)
        self.usage = self._dialect.usage_of(event, self.usage)


def _has_usage(data: bytes) -> bool:
    # With stream_options.include_usage, every event but the last says "usage":null.
    return data.count(_USAGE) != data.count(b'"usage":null')


def _json_object(data: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None
