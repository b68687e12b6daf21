"""Where each format's events have the response id, their type and the usage, and which of them end a stream."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from addons.exchange.route import StreamFormat
from addons.exchange.usage import Usage
from attest_web.response_ids import usable_id


@dataclass(frozen=True)
class EventFormat:
    """How the server-sent events of an API are read.

    Attributes:
        id_paths: Paths at which an event may have the response id; the first that is present counts.
        usage_paths: Paths at which an event may have a usage; each ends in `usage`.
        type_path: Path at which the data has the type of its event.
        ends_with_done: Whether the line `data: [DONE]` ends the stream.
        last_events: Types of the events that end it, as in the line `event: …` and at `type_path`.
    """

    id_paths: tuple[tuple[str, ...], ...]
    usage_paths: tuple[tuple[str, ...], ...] = (("usage",),)
    type_path: tuple[str, ...] = ("type",)
    ends_with_done: bool = False
    last_events: frozenset[bytes] = frozenset()

    def may_have_id(self, data: bytes) -> bool:
        """Whether data may tell a response id; most events' data is not parsed, as it does not."""
        return any(b'"%s"' % path[-1].encode() in data for path in self.id_paths)

    def type_of(self, event: dict[str, Any]) -> object:
        """What stands where an event's data has its type; None where nothing does."""
        return _at(event, self.type_path)

    def id_of(self, event: dict[str, Any]) -> str | None:
        """The response id in an event's data; None if there is none."""
        for path in self.id_paths:
            if (chat_id := usable_id(_at(event, path))) is not None:
                return chat_id
        return None

    def usage_of(self, event: dict[str, Any], before: Usage | None) -> Usage | None:
        """The token usage in an event's data, completed by the one known before."""
        for path in self.usage_paths:
            if isinstance(value := _at(event, path), dict) and (usage := Usage.read(value)) is not None:
                return usage.filled_by(before)
        return before


def _at(event: dict[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = event
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


CHAT = EventFormat((("id",),), ends_with_done=True)
"""OpenAI's chat and text completions."""

RESPONSES = EventFormat(
    (("response", "id"),),
    (("response", "usage"),),
    last_events=frozenset({b"response.completed", b"response.incomplete", b"response.failed"}),
)
"""OpenAI's Responses."""

MESSAGES = EventFormat(
    (("message", "id"),), (("message", "usage"), ("usage",)), last_events=frozenset({b"message_stop"})
)
"""Anthropic's Messages."""

ANY = EventFormat(
    CHAT.id_paths + RESPONSES.id_paths + MESSAGES.id_paths,
    RESPONSES.usage_paths + MESSAGES.usage_paths,
    ends_with_done=True,
    last_events=RESPONSES.last_events | MESSAGES.last_events,
)
"""Streams of other endpoints, which may end in any of these ways, or in none."""

EVENT_FORMATS: Final[Mapping[StreamFormat, EventFormat]] = {
    StreamFormat.CHAT: CHAT,
    StreamFormat.RESPONSES: RESPONSES,
    StreamFormat.MESSAGES: MESSAGES,
    StreamFormat.ANY: ANY,
}
"""How the events of each format are read."""
