"""Checks the order of events, so that the end of a reasoning block cannot mark a text as complete.

The end of reasoning may be released before a stream is proven. The end of a text, which applications act on, may not.
But many parsers take a text for complete at the end of its block, part or item, without checking the type. So a block
that begins or ends as reasoning must not contain text.
"""

from typing import Any, Final

MAX_ITEMS: Final = 4096
"""Largest number of tracked outputs of a response, each with one id. The events of further outputs are held back."""

_THOUGHTS: Final = frozenset({"thinking", "redacted_thinking"})
_MESSAGES: Final = frozenset({"output_text", "refusal", "message"})
_TEXTS: Final = frozenset({"response.output_text.delta", "response.refusal.delta"})


class BlockOrder:
    """The blocks of a response of Anthropic's Messages API.

    Anthropic's package counts blocks as they begin, so their indexes must match this count.
    """

    def __init__(self) -> None:
        self._begun: int | None = None  # number of begun blocks; None before the message begins
        self._thinks = False

    def takes(self, kind: str, event: dict[str, Any]) -> bool:
        """Whether an event is in order.

        Args:
            kind: Its type.
            event: An event of the shape of this type.
        """
        if kind == "message_start":
            fresh, self._begun = self._begun is None, 0
            return fresh
        if self._begun is None:
            return False
        if kind == "content_block_start":
            expected, self._begun = self._begun, self._begun + 1
            self._thinks = event["content_block"]["type"] in _THOUGHTS
            return bool(event["index"] == expected)
        if event["index"] != self._begun - 1:
            return False
        if kind == "content_block_delta":
            is_text = bool(event["delta"]["type"] == "text_delta")
            return self._thinks != is_text
        return self._thinks


class ItemOrder:
    """The outputs of a response of OpenAI's Responses API, by index and by id: each is a message or reasoning."""

    def __init__(self) -> None:
        self._thinks: dict[tuple[str, object], bool] = {}

    def takes(self, kind: str, event: dict[str, Any]) -> bool:
        """Whether an event is in order.

        Args:
            kind: Its type, which begins with `response.`.
            event: An event of the shape of this type.
        """
        inner = event.get("item") or event.get("part")
        said_to_think = kind.startswith("response.reasoning_")
        if inner is not None:
            thinks = inner["type"] not in _MESSAGES
        elif said_to_think or kind in _TEXTS:
            thinks = said_to_think
        else:
            return True
        if "output_index" not in event:  # it could be about any output
            return said_to_think
        ids = [event.get("item_id"), (event.get("item") or {}).get("id")]
        keys = [("index", event["output_index"]), *(("id", each) for each in ids if each)]
        return all(self._is(key, thinks) for key in keys)

    def _is(self, key: tuple[str, object], thinks: bool) -> bool:
        if key not in self._thinks and len(self._thinks) >= 2 * MAX_ITEMS:
            return False
        return self._thinks.setdefault(key, thinks) == thinks
