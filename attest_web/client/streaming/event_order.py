"""The order of events: so that no text is taken for complete by the end of a block of reasoning.

The end of reasoning may be read before a stream is proven; that of a text, which readers act on, may not. But many
readers take a text for complete at the end of its block, part or item, without a look at its type. So a block that
begins as reasoning, or ends as one, has no text in it.
"""

from typing import Any, Final

MAX_ITEMS: Final = 4096
"""Outputs of a response, each with one id, that are remembered at most. The events of more wait."""

_THOUGHTS: Final = frozenset({"thinking", "redacted_thinking"})
_MESSAGES: Final = frozenset({"output_text", "refusal", "message"})
_TEXTS: Final = frozenset({"response.output_text.delta", "response.refusal.delta"})


class BlockOrder:
    """The blocks of an answer of Anthropic's Messages.

    The package that speaks to Anthropic counts blocks as they begin, so they must be numbered as it counts.
    """

    def __init__(self) -> None:
        self._begun: int | None = None  # blocks that have; None before the message has
        self._thinks = False

    def takes(self, kind: str, event: dict[str, Any]) -> bool:
        """Whether an event may come now.

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
    """The outputs of a response of OpenAI's Responses API, by index and by id: each is a message or a thought."""

    def __init__(self) -> None:
        self._thinks: dict[tuple[str, object], bool] = {}

    def takes(self, kind: str, event: dict[str, Any]) -> bool:
        """Whether an event may come now.

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
        if "output_index" not in event:  # it could be about any
            return said_to_think
        ids = [event.get("item_id"), (event.get("item") or {}).get("id")]
        keys = [("index", event["output_index"]), *(("id", each) for each in ids if each)]
        return all(self._is(key, thinks) for key in keys)

    def _is(self, key: tuple[str, object], thinks: bool) -> bool:
        if key not in self._thinks and len(self._thinks) >= 2 * MAX_ITEMS:
            return False
        return self._thinks.setdefault(key, thinks) == thinks
