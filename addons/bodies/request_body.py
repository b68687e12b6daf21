"""What is done with the body of a request that is signed: it is hashed, empty `tool_calls` go, small JSON is checked.

What is signed is the hash of the body as the client sent it; what is forwarded is without the empty `tool_calls` of
chat messages.
"""

import json
from typing import Final

from addons.bodies.empty_tool_calls import EmptyToolCallsFilter
from addons.bodies.pipeline import BodyPipeline

MAX_BUFFERED: Final = 1024 * 1024
"""Bytes of a JSON body up to which it is held until it is complete; a larger one is forwarded as it comes."""

MAX_CHECKED: Final = 128 * 1024
"""Bytes of a body up to which it is made sure that it is JSON. At this size that takes up to 8 ms, for lists in lists,
during which nothing else is done."""


def request_pipeline(
    *, is_json: bool, drops_tool_calls: bool, content_length: str | None, is_replay: bool
) -> BodyPipeline:
    """Make the pipeline of a request body.

    Args:
        is_json: Whether the body is to be a JSON object. A small one is held until it is complete then; any other body
            goes on as it comes.
        drops_tool_calls: Whether empty `tool_calls` are taken out of its messages.
        content_length: The length that its head announces, in bytes, as it is written there.
        is_replay: Whether mitmproxy sends it once more, which has all of it beforehand.
    """
    hold_limit = MAX_BUFFERED if is_json else 0
    if not drops_tool_calls:
        return BodyPipeline(hold_limit=hold_limit)
    if content_length is None or not content_length.isdecimal():  # a rule may have written anything
        transform = EmptyToolCallsFilter(keep_length=content_length is not None)
    else:
        # What goes upstream before the end of the body is there, goes with the length that the client has announced.
        length = int(content_length)
        transform = EmptyToolCallsFilter(length, keep_length=length > MAX_BUFFERED or is_replay)
    return BodyPipeline([transform], hold_limit=hold_limit)


def is_json_object(body: bytes) -> bool:
    """Whether a body is a JSON object, as far as that can be told in short time: of larger ones the upstream judges."""
    if len(body) > MAX_CHECKED:
        return True
    try:
        return isinstance(json.loads(body), dict)
    except (ValueError, RecursionError):
        return False
