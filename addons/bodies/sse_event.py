"""The data of one server-sent event (WHATWG HTML, 9.2.6): its type, response id and token usage.

JSON is parsed only where it may contain one of them. Data of more than `MAX_EVENT` bytes is not kept, but searched for
these members as it passes.
"""

import json
from typing import Any

from addons.bodies.json_members import JsonMembers
from addons.bodies.stream_formats import EventFormat
from addons.bodies.usage_finder import UsageFinder
from addons.exchange.usage import Usage
from attest_web.response_ids import usable_id

MAX_EVENT = 256 * 1024
"""Most bytes of an event that are kept."""

USAGE = b'"usage"'


class SseEvent:
    """The data of an event, as far as it has arrived.

    Attributes:
        lines: Number of data lines.
        is_blank: Whether they are all empty or white space.
    """

    def __init__(self, event_format: EventFormat) -> None:
        self._event_format = event_format
        self.lines = 0
        self.is_blank = True
        self._data: list[bytes] = []
        self._size = 0
        # Searches the data, once there is too much of it to keep.
        self._members: JsonMembers | None = None
        self._usage = UsageFinder()

    def add(self, value: bytes, *, continues: bool = False) -> None:
        """Add the value of a data line, or the next part of a value if it `continues` one."""
        self.lines += not continues
        self.is_blank = self.is_blank and (not value or value.isspace())
        if self._members is None:
            if self._size + len(value) < MAX_EVENT:
                self._data.append(value)
                self._size += len(value) + 1
                return
            self._search()
        elif not continues:
            value = b"\n" + value
        self._look_into(value)

    def type(self) -> bytes:
        """The member `type` of the data; empty if there is none yet."""
        if self._members is None and self.lines > 1:
            self._search()  # parsing the whole data again after each line would take quadratic time
        if self._members is not None:
            found: object = self._members.found.get(self._event_format.type_path)
        else:
            event = _json_object(b"\n".join(self._data))
            found = self._event_format.type_of(event) if event is not None else None
        return found.encode("utf-8", "replace") if isinstance(found, str) else b""

    def id(self) -> str | None:
        """The response id in the data; None if there is none."""
        if self._members is not None:
            found = (usable_id(self._members.found.get(path)) for path in self._event_format.id_paths)
            return next((chat_id for chat_id in found if chat_id is not None), None)
        data = b"\n".join(self._data)
        event = _json_object(data) if self._event_format.may_have_id(data) else None
        return self._event_format.id_of(event) if event is not None else None

    def usage(self, before: Usage | None) -> Usage | None:
        """The token usage in the data, completed by the one known before."""
        if self._members is not None:
            found = self._usage.usage()
            return found.filled_by(before) if found is not None else before
        data = b"\n".join(self._data)
        event = _json_object(data) if has_usage(data) else None
        return self._event_format.usage_of(event, before) if event is not None else before

    def _search(self) -> None:
        self._members = JsonMembers({*self._event_format.id_paths, self._event_format.type_path})
        self._look_into(b"\n".join([*self._data, b""]) if self._data else b"")
        self._data.clear()

    def _look_into(self, text: bytes) -> None:
        if self._members is not None:
            self._members.feed(text)
        self._usage.feed(text)


def has_usage(data: bytes) -> bool:
    """Whether data contains a usage other than null."""
    # With stream_options.include_usage, every event except the last has "usage":null.
    return data.count(USAGE) != data.count(b'"usage":null')


def _json_object(data: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None
