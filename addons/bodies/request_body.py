"""The pipeline of the request body of a signed exchange: hash it, remove empty `tool_calls`, check small JSON.

The signed hash is that of the body as the client sent it; the forwarded body is without the empty `tool_calls` of chat
messages.
"""

import json
from typing import Final

from addons.bodies.empty_tool_calls import EmptyToolCallsFilter
from addons.bodies.pipeline import BodyPipeline

MAX_BUFFERED: Final = 1024 * 1024
"""Bytes of a JSON body up to which it is held until it is complete; a larger one is forwarded as it arrives."""

MAX_CHECKED: Final = 128 * 1024
"""Bytes of a body up to which it is checked to be JSON. The check blocks the event loop; at this size it takes up to
8 ms, for nested lists."""


def request_pipeline(
    *, is_json: bool, drops_tool_calls: bool, content_length: str | None, is_replay: bool
) -> BodyPipeline:
    """Make the pipeline of a request body.

    Args:
        is_json: Whether the body has to be a JSON object. A small one is then held until it is complete; any other body
            is forwarded as it arrives.
        drops_tool_calls: Whether empty `tool_calls` are removed from its messages.
        content_length: The value of `Content-Length`; None if the head has none.
        is_replay: Whether mitmproxy replays the request, and so has the whole body beforehand.
    """
    hold_limit = MAX_BUFFERED if is_json else 0
    if not drops_tool_calls:
        return BodyPipeline(hold_limit=hold_limit)
    if content_length is None or not content_length.isdecimal():  # a rule may have written anything
        transform = EmptyToolCallsFilter(keep_length=content_length is not None)
    else:
        # A body that is forwarded before its end has arrived is sent with the length that the client announced.
        length = int(content_length)
        transform = EmptyToolCallsFilter(length, keep_length=length > MAX_BUFFERED or is_replay)
    return BodyPipeline([transform], hold_limit=hold_limit)


def is_json_object(body: bytes) -> bool:
    """Whether a body is a JSON object. True for a body of more than `MAX_CHECKED` bytes: the upstream checks those."""
    if len(body) > MAX_CHECKED:
        return True
    try:
        return isinstance(json.loads(body), dict)
    except (ValueError, RecursionError):
        return False
