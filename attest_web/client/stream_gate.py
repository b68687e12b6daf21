"""Lets the events of a stream through, and holds back the one that ends it and all that follows.

Whoever reads a stream acts on its end: `[DONE]`, `response.completed`, `message_stop`, or a `finish_reason`, after
which many read no further. So none of these is let through before the whole stream is proven. All that comes before
goes out as soon as its event is complete, and not earlier, as only a complete event says what it is.

Lines and fields are read as the openai package's own decoder reads them (WHATWG HTML, 9.2.6), and every event's JSON is
parsed: what it would take for an end must be one here, too. So a byte order mark is part of its line, as it is there.
"""

import json
import re
from collections.abc import Sized
from typing import Any

from attest_web.client.errors import UnprovenError

MAX_ID = 512
"""Characters of a response id at most."""

LAST_EVENTS = frozenset({"response.completed", "response.incomplete", "response.failed", "message_stop"})
"""Types of events that end a stream: OpenAI's Responses, Anthropic's Messages."""

_CR, _LF = 0x0D, 0x0A
_LINE_END = re.compile(rb"[\r\n]")


class StreamGate:
    """The gate of one stream; sans-I/O.

    Attributes:
        id: The response id of the first event that has one.
    """

    def __init__(self, max_bytes: int) -> None:
        """Make a gate.

        Args:
            max_bytes: Of the stream, all of which is kept for its proof.
        """
        self._max_bytes = max_bytes
        self._content = bytearray()
        self._released = 0  # bytes of the content that were let through
        self._line = 0  # where the line begins that has not ended
        self._scanned = 0  # up to where there is no line end in it
        self._after_cr = False
        self._closed = False
        self._event = b""
        self._data: list[bytes] = []
        self.id: str | None = None

    @property
    def content(self) -> bytes:
        """All that has come."""
        return bytes(self._content)

    def feed(self, piece: bytes) -> bytes:
        """Take the next piece; return what may be handed over now, perhaps nothing.

        Raises:
            UnprovenError: The stream is longer than `max_bytes`.
        """
        self._content += piece
        check_length(self._content, self._max_bytes)
        start = self._released
        if not self._closed:
            self._read_lines()
        return bytes(self._content[start : self._released])

    def end(self) -> bytes:
        """What was held back. To be handed over once the stream is proven."""
        held = bytes(self._content[self._released :])
        self._released = len(self._content)
        return held

    def _read_lines(self) -> None:
        content = self._content
        while (end := self._line_end()) is not None:
            if end == self._line and self._after_cr and content[end] == _LF:  # the rest of a \r\n
                self._after_cr = False
                blank = False
                if self._released == end:  # of an event that has been let through already
                    self._released = end + 1
            else:
                self._after_cr = content[end] == _CR
                blank = self._read_line(bytes(content[self._line : end]))
            self._line = self._scanned = end + 1
            if blank:
                if self._ends_stream():
                    self._closed = True
                    return
                self._released = end + 1

    def _line_end(self) -> int | None:
        found = _LINE_END.search(self._content, self._scanned)
        if found is None:
            self._scanned = len(self._content)
            return None
        return found.start()

    def _read_line(self, line: bytes) -> bool:
        """Take a line in; say whether it ends an event."""
        if not line:
            return True
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"event":
            self._event = value
        elif name == b"data":
            self._data.append(value)
        return False

    def _ends_stream(self) -> bool:
        name, data = self._event.decode("utf-8", "replace"), b"\n".join(self._data)
        self._event = b""
        self._data.clear()
        if name in LAST_EVENTS or data.startswith(b"[DONE]"):
            return True
        event = json_object(data)
        if event is None:
            return False
        if self.id is None:
            self.id = response_id(event)
        return event.get("type") in LAST_EVENTS or _has_finish_reason(event.get("choices"))


def check_length(content: Sized, max_bytes: int) -> None:
    """Refuse an answer that is longer than may be kept.

    Raises:
        UnprovenError: It is.
    """
    if len(content) > max_bytes:
        raise UnprovenError(f"the answer has more than {max_bytes} bytes; max_bytes sets another bound")


def json_object(data: bytes) -> dict[str, Any] | None:
    """The JSON object that bytes stand for; None where they stand for something else."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def response_id(source: dict[str, Any]) -> str | None:
    """The response id that an answer or an event names: its own, or its response's or message's."""
    for place in (source, source.get("response"), source.get("message")):
        value = place.get("id") if isinstance(place, dict) else None
        if is_id(value):
            return str(value)
    return None


def is_id(value: object) -> bool:
    """Whether a signature can be asked for by this: a string of 1 to `MAX_ID` characters that a URL can carry."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def _has_finish_reason(choices: object) -> bool:
    return isinstance(choices, list) and any(isinstance(one, dict) and one.get("finish_reason") for one in choices)
