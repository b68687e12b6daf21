"""Lets the events of a stream through, and holds back the one that people act on and all that follows.

Whoever reads a stream acts on its end: `[DONE]`, `response.completed`, `message_stop`, or a `finish_reason`, after
which many read no further; and on what is whole before: a tool call, a text. So none of these is let through before the
whole stream is proven. All that comes before goes out as soon as its event is complete, and not earlier, as only a
complete event says what it is. What cannot be read here is held back: somebody else might read an end in it.

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

_SAYS_DONE = (".done", ".completed", ".incomplete", ".failed", ".cancelled", ".expired", ".requires_action")
_PARTS = ("response.output_item.done", "response.content_part.done")

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
        event: Any = {}
        if data:
            try:
                event = json.loads(data)
            except (ValueError, RecursionError):  # [DONE] among them
                return True
        if not isinstance(event, dict):
            event = {}
        if self.id is None:
            self.id = response_id(event)
        return any(says_done(each, event) for each in (name, event.get("type"))) or _is_acted_on(event)


def says_done(name: object, event: dict[str, Any]) -> bool:
    """Whether an event of this type ends something that people act on: all of an answer, a tool call, a text.

    What a model has thought is done before its answer begins; that goes through.

    Args:
        name: The type: OpenAI's, as in `response.completed` or `transcript.text.done`, or Anthropic's.
        event: The event's data.
    """
    if not isinstance(name, str):
        return False
    if name in _PARTS:
        part = event.get("item" if name == _PARTS[0] else "part")
        return not (isinstance(part, dict) and str(part.get("type")).startswith("reasoning"))
    return name in ("message_stop", "done") or (name.endswith(_SAYS_DONE) and ".reasoning" not in name)


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


def _is_acted_on(event: dict[str, Any]) -> bool:
    """Whether it has a choice that is finished or calls a tool; the same of Anthropic's Messages."""
    choices = event.get("choices")
    places = [event, *(choices if isinstance(choices, list) else ())]
    return any(_finishes_or_calls(place) for place in places if isinstance(place, dict))


def _finishes_or_calls(place: dict[str, Any]) -> bool:
    inner = [place.get(name) for name in ("delta", "content_block")]
    delta, block = (each if isinstance(each, dict) else {} for each in inner)
    return (
        place.get("finish_reason") is not None  # an empty one, too: many ask whether it is None
        or delta.get("stop_reason") is not None
        or bool(delta.get("tool_calls") or delta.get("function_call"))
        or "tool" in str(block.get("type"))
    )
