"""The one change this proxy makes to a request: empty `tool_calls` in chat messages are dropped.

vLLM fails on `"tool_calls": []` in an assistant's message, and clients send back the messages that they got. What is
signed is the body as the client sent it.
"""

import json
import re
from typing import Any

_EMPTY_TOOL_CALLS = re.compile(rb'"tool_calls"\s*:\s*\[\s*\]')


MAX_CHECKED = 1024 * 1024
"""Bytes of a body up to which it is made sure that it is JSON, which takes some 15 ms at this size."""


def forwarded_body(body: bytes) -> bytes:
    """The body to forward for a request body: the same bytes, unless a chat message has an empty `tool_calls`.

    Raises:
        ValueError: The body is not a JSON object; told of bodies up to `MAX_CHECKED` only.
    """
    suspicious = _EMPTY_TOOL_CALLS.search(body) is not None
    if len(body) > MAX_CHECKED and not suspicious:
        return body  # the upstream will judge it; here, parsing it would hold up everybody
    try:
        request = json.loads(body)
    except RecursionError:
        raise ValueError("the JSON is nested too deep") from None
    if not isinstance(request, dict):
        raise ValueError("the JSON is not an object")
    # With a match, it may still stand somewhere else than in a message.
    if suspicious and _drop_empty_tool_calls(request.get("messages")):
        return json.dumps(request, separators=(",", ":")).encode()
    return body


def _drop_empty_tool_calls(messages: Any) -> bool:
    dropped = False
    for message in messages if isinstance(messages, list) else []:
        if isinstance(message, dict) and message.get("tool_calls") == []:
            del message["tool_calls"]
            dropped = True
    return dropped
