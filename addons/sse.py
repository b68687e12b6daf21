"""Server-sent events, read while they pass (WHATWG HTML, 9.2.6, "Interpreting an event stream").

The reader gets the bytes of a stream in whatever pieces they arrive and gives them back, unchanged and in order, to be
sent on. From every piece it gives back all that it can: it keeps only bytes that are, or may become, the line that
ends the stream. A client acts on `data: [DONE]` as soon as it has it, and by then the signature must exist; so that
line, and what little comes behind it, is given out by `end` alone.

On the way it picks up the response id and the token usage. JSON is parsed only in events that can matter: those before
the id is known, and those that have usage in them.
"""

import json
import re
from typing import Any

MAX_EVENT = 256 * 1024
"""Bytes of an event that are kept for reading at most. A longer one passes all the same, unread."""

MAX_ID = 512
"""Characters of a response id at most; a longer one is no id that anybody looks a signature up by."""

MAX_HELD = 64 * 1024
"""Bytes behind the end of the stream that are held back at most. With more, it was not the end."""

_ENDS = (b"data: [DONE]", b"data:[DONE]")
_LONGEST_END = max(map(len, _ENDS))
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"[\r\n]")


class SseReader:
    """Reads the server-sent events of an OpenAI chat or completion.

    Attributes:
        id: `id` of the first event that has one, once it has passed.
        usage: `usage` of the last event that has one.
        finished: Whether `data: [DONE]` has come and nothing speaks against its being the end.
    """

    def __init__(self) -> None:
        self.id: str | None = None
        self.usage: dict[str, Any] | None = None
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
        self._at_start = True
        self._after_cr = False
        # Everything from the line that ends the stream on, once it has come.
        self._held: bytearray | None = None

    def feed(self, piece: bytes) -> bytes:
        """Take the next piece of the stream, of one byte or more; return what may be sent on now, perhaps nothing."""
        # Most pieces are whole events of no interest, and cost a few scans in C.
        if (
            self.id is not None
            and not self._line
            and not self._line_too_long
            and not self._data_lines
            and self._held is None
            and piece.endswith((b"\n\n", b"\r\n\r\n"))
            and b"[DONE]" not in piece
            and b'"usage"' not in piece
        ):
            self._after_cr = False
            return piece
        if self._held is not None:
            return self._feed_behind_end(self._held, piece)
        return self._feed_lines(piece)

    def end(self) -> bytes:
        """Take note that the message is complete; return what was kept back."""
        if self._held is None and bytes(self._line) in _ENDS and not self._data_lines:
            self.finished = True
        kept = bytes(self._held) if self._held is not None else bytes(self._line[len(self._line) - self._held_line :])
        self._held = None
        self._line.clear()
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
        released = 0  # bytes of piece that go out now
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
            if line is not None and self._ends_stream(line):
                self.finished = True
                self._held = bytearray(kept_before if began_before else b"")
                self._held += piece[start:]
                if began_before:
                    return b""
                return kept_before + piece[:start]
            self._read_line(line)
            start = end.end()
            if end.group() == b"\r":
                if start == len(piece):
                    self._after_cr = True
                elif piece[start] == 0x0A:
                    start += 1
        self._keep_line(piece[start:])
        if self._may_end_stream():
            if start == 0:  # nothing but more of the line that has been kept back, or was begun just now
                self._held_line = len(kept_before) + len(piece)
                return b""
            self._held_line = len(piece) - start
            released = start
        else:
            released = len(piece)
        return kept_before + piece[:released]

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

    def _ends_stream(self, line: bytes) -> bool:
        return line in _ENDS and not self._data_lines

    def _may_end_stream(self) -> bool:
        size = len(self._line)
        if not size or size > _LONGEST_END or self._data_lines:
            return False
        line = bytes(self._line)
        return any(end.startswith(line) for end in _ENDS)

    def _read_line(self, line: bytes | None) -> None:
        if line is None:
            self._data_lines += 1
            self._data_size = MAX_EVENT + 1
        elif not line:
            if self._data_lines:
                self._read_event()
        elif line.startswith(b"data:") or line == b"data":
            value = line[5:].removeprefix(b" ")
            self._data_lines += 1
            self._data_size += len(value) + 1
            if self._data_size <= MAX_EVENT:
                self._data.append(value)

    def _read_event(self) -> None:
        data = b"\n".join(self._data)
        readable = self._data_size <= MAX_EVENT
        self._data.clear()
        self._data_lines = self._data_size = 0
        if not readable:
            return
        has_id = self.id is None and b'"id"' in data
        # With stream_options.include_usage, every event but the last says "usage":null.
        has_usage = b'"usage"' in data and not (data.count(b'"usage"') == 1 and b'"usage":null' in data)
        if not (has_id or has_usage):
            return
        try:
            event = json.loads(data)
        except (ValueError, RecursionError):
            return
        if not isinstance(event, dict):
            return
        if self.id is None:
            self.id = usable_id(event.get("id"))
        if isinstance(usage := event.get("usage"), dict):
            self.usage = usage


def usable_id(value: object) -> str | None:
    """The value, where it can serve as a response id: a string of 1 to `MAX_ID` characters that UTF-8 can carry."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return None
    return value
