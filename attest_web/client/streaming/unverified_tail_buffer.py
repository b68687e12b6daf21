"""Releases the events of a stream up to the first that a reader could act on, and buffers all that follows.

A reader acts on the end of a stream (`[DONE]`, `response.completed`, `message_stop`, a `finish_reason`), and on what
is complete before: a tool call, a text. What is known to be none of these is released as soon as its event is complete,
see `stream_events`; everything else is buffered until the whole stream is proven, and so is all that follows it.

Lines and fields are read as WHATWG HTML, 9.2.6 has them. Where another reader may read a stream in another way, it
waits: at a line that ends in a lone CR, one with a character that `str.splitlines` takes for a line end, a field that
is not `event` or `data` (`id`, and one behind a byte order mark, among them), a field that is there twice, bytes that
are not UTF-8, JSON with two members of one name.
"""

import json
import re
from typing import Any, Final

from attest_web.client.proving.errors import UnprovenError
from attest_web.client.streaming.stream_events import EventFilter
from attest_web.response_ids import response_id
from attest_web.verify.primitives.checks import FailedError
from attest_web.verify.primitives.untrusted_json import parse_object

MAX_EVENT: Final = 2**20
"""Bytes of an event's data at most that are parsed; a longer one is buffered. Parsed JSON takes 25 times its size."""

_LINE_END = re.compile(rb"\r\n|\n|\r(?=.)", re.DOTALL)
"""The end of a line, once it is clear: the CR at the end of what has come may be the half of one."""

_OTHER_LINE_END = re.compile("[\v\f\x1c-\x1e\x85\u2028\u2029]")
"""What `str.splitlines` takes for a line end and SSE does not; httpx's `iter_lines` reads so."""


class UnverifiedTailBuffer:
    """The buffer of one stream; sans-I/O.

    All of the stream is kept, for its proof, and `max_bytes` bounds it.

    Attributes:
        id: The response id of the first event that has one.
    """

    def __init__(self, max_bytes: int) -> None:
        """Make an empty buffer.

        Args:
            max_bytes: Of the stream, all of which is kept for its proof.
        """
        self._max_bytes = max_bytes
        self._content = bytearray()
        self._released = 0  # bytes of the content that were released
        self._line = 0  # where the line begins that has not ended
        self._scanned = 0  # up to where there is no line end in it
        self._closed = False
        self._filter = EventFilter()
        self._event = _Event()
        self.id: str | None = None

    @property
    def content(self) -> bytes:
        """All that has come."""
        return bytes(self._content)

    def feed(self, piece: bytes) -> bytes:
        """Add the next piece; return what may be released now, perhaps nothing.

        Raises:
            UnprovenError: The stream is longer than `max_bytes`.
        """
        check_length(len(self._content) + len(piece), self._max_bytes)
        self._content += piece
        start = self._released
        if not self._closed or self.id is None:
            self._read_lines()
        return bytes(self._content[start : self._released])

    def end(self) -> bytes:
        """What was held back: to be released once the stream is proven."""
        held = bytes(self._content[self._released :])
        self._released = len(self._content)
        return held

    def _read_lines(self) -> None:
        while (found := _LINE_END.search(self._content, self._scanned)) is not None:
            start, end = found.span()
            ended = self._event.read_line(bytes(self._content[self._line : start]), lone_cr=found[0] == b"\r")
            self._line = self._scanned = end
            if ended:
                event, self._event = self._event, _Event()
                self._closed = not self._passes(event) or self._closed
                if not self._closed:
                    self._released = end
                elif self.id is not None:
                    return
        self._scanned = max(self._line, len(self._content) - 1)  # the last byte may be half of a line end

    def _passes(self, event: "_Event") -> bool:
        if self.id is None and (source := event.json()) is not None:
            self.id = response_id(source)
        if event.is_unusual:
            return False
        if event.is_empty:
            return True
        try:
            return self._filter.passes(event.name, parse_object(event.data, "an event"))
        except FailedError:  # [DONE] among them
            return False


class _Event:
    """An event as its lines come in.

    Attributes:
        is_unusual: Whether other readers may read something else in it.
        name: Its `event` field.
    """

    def __init__(self) -> None:
        self.is_unusual = False
        self.name: str | None = None
        self._data: list[str] = []
        self._size = 0

    @property
    def is_empty(self) -> bool:
        """Whether it has no field, but comments at most."""
        return self.name is None and not self._data

    @property
    def data(self) -> str:
        """Its data."""
        return "\n".join(self._data)

    def json(self) -> dict[str, Any] | None:
        """The JSON object that its data stand for, if any, as most readers take it."""
        return json_object(self.data) if 0 < self._size <= MAX_EVENT else None

    def read_line(self, line: bytes, *, lone_cr: bool) -> bool:
        """Take a line in, without its end; say whether it ends the event."""
        self._size += len(line)
        self.is_unusual = self.is_unusual or lone_cr or self._size > MAX_EVENT
        if not line:
            return True
        if self._size > MAX_EVENT:
            return False
        try:
            written = line.decode()
        except UnicodeDecodeError:
            self.is_unusual = True
            return False
        self.is_unusual = self.is_unusual or _OTHER_LINE_END.search(written) is not None
        name, _, value = written.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self.is_unusual = self.is_unusual or bool(self._data)
            self._data.append(value)
        elif name == "event" and self.name is None:
            self.name = value
        elif name:  # a comment has no name
            self.is_unusual = True
        return False


def check_length(size: int, max_bytes: int) -> None:
    """Refuse an answer that is longer than may be kept.

    Args:
        size: Bytes that it would have.
        max_bytes: Bytes that it may have.

    Raises:
        UnprovenError: It is longer.
    """
    if size > max_bytes:
        raise UnprovenError(f"the answer has more than {max_bytes} bytes; max_bytes sets another bound")


def json_object(data: bytes | str) -> dict[str, Any] | None:
    """The JSON object that bytes stand for; None where they stand for something else."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
