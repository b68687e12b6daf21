"""Releases the events of a stream up to the first that an application could act on, and buffers the rest.

An application acts on the end of a stream (`[DONE]`, `response.completed`, `message_stop`, a `finish_reason`), and on
parts that are complete before it: a tool call, a text. An event that is known to be none of these is released as soon
as it is complete, see `stream_events`. Any other event, and everything after it, is buffered until the whole stream is
proven.

Lines and fields are parsed by WHATWG HTML, 9.2.6. Where other parsers may differ, the buffer releases nothing more: at
a line that ends in a lone CR, a line with a character that `str.splitlines` takes for a line end, a field that is not
`event` or `data` (such as `id`, or a field after a byte order mark), a repeated field, bytes that are not UTF-8, JSON
with two members of one name.
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
"""Largest event data that are parsed, in bytes; larger ones are buffered. Parsed JSON takes 25 times its size."""

_LINE_END = re.compile(rb"\r\n|\n|\r(?=.)", re.DOTALL)
"""The end of a line, once it is certain: a CR at the end of the received bytes may be half of a CRLF."""

_OTHER_LINE_END = re.compile("[\v\f\x1c-\x1e\x85\u2028\u2029]")
"""Line ends of `str.splitlines`, and so of httpx's `iter_lines`, that are not line ends in SSE."""


class UnverifiedTailBuffer:
    """The buffer of one stream; sans-I/O.

    The whole stream, up to `max_bytes`, is kept for its proof.

    Attributes:
        id: The response id of the first event that has one.
    """

    def __init__(self, max_bytes: int) -> None:
        """Make an empty buffer.

        Args:
            max_bytes: Largest stream, in bytes, all of which is kept for its proof.
        """
        self._max_bytes = max_bytes
        self._content = bytearray()
        self._released = 0  # bytes of the content that were released
        self._line = 0  # offset of the incomplete line
        self._scanned = 0  # offset up to which it has no line end
        self._closed = False
        self._filter = EventFilter()
        self._event = _Event()
        self.id: str | None = None

    @property
    def content(self) -> bytes:
        """All bytes received so far."""
        return bytes(self._content)

    def feed(self, piece: bytes) -> bytes:
        """Add the next piece; return the bytes that may be released now, possibly none.

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
        """The buffered bytes, to be released once the stream is proven."""
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
        except FailedError:  # for example [DONE]
            return False


class _Event:
    """An event, built from its lines.

    Attributes:
        is_unusual: Whether other parsers may parse it in another way.
        name: Its `event` field.
    """

    def __init__(self) -> None:
        self.is_unusual = False
        self.name: str | None = None
        self._data: list[str] = []
        self._size = 0

    @property
    def is_empty(self) -> bool:
        """Whether it has no fields; it may have comments."""
        return self.name is None and not self._data

    @property
    def data(self) -> str:
        """Its data."""
        return "\n".join(self._data)

    def json(self) -> dict[str, Any] | None:
        """The JSON object in its data, by lenient parsing; None if there is none."""
        return json_object(self.data) if 0 < self._size <= MAX_EVENT else None

    def read_line(self, line: bytes, *, lone_cr: bool) -> bool:
        """Add a line, without its line end; return whether it ends the event."""
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
    """Reject a response that is longer than the limit.

    Args:
        size: Its size in bytes.
        max_bytes: The limit in bytes.

    Raises:
        UnprovenError: It is longer.
    """
    if size > max_bytes:
        raise UnprovenError(f"the response has more than {max_bytes} bytes; max_bytes sets another limit")


def json_object(data: bytes | str) -> dict[str, Any] | None:
    """Parse a JSON object; None for anything else."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
