"""Which requests may be sent to an upstream a second time, where the first attempt was lost with its connection.

The upstream may have read all of the first attempt. So it must be a request that changes nothing there, however often
it is made (RFC 9110, 9.2.2): GET, HEAD, and those POSTs that only compute a response.
"""

import json

from mitmproxy import http

from addons.exchange.route import Route
from addons.routing.routes import RERANK, SCORE

MAX_LOOKED_INTO = 64 * 1024
"""Bytes of a body up to which its `store` is looked for, which takes a millisecond at this size."""

RESPONSES = "/v1/responses"

COMPUTES_ONLY = frozenset(
    {"/v1/chat/completions", "/v1/completions", "/v1/embeddings", RERANK, SCORE, RESPONSES, "/v1/tokenize"}
)
"""Routes of POST requests whose response is their only effect, unless they ask that it be stored."""


def is_repeatable(request: http.Request, route: Route, body: bytes) -> bool:
    """Whether a request may be sent again.

    Args:
        request: Its head.
        route: Its route.
        body: The whole of the body that was forwarded.
    """
    method = request.data.method
    if method in (b"GET", b"HEAD"):
        return True
    return method == b"POST" and route.name in COMPUTES_ONLY and not stores(body, by_default=route.name == RESPONSES)


def stores(body: bytes, *, by_default: bool) -> bool:
    """Whether a request asks that its response be stored; True too where that cannot be found out in short time.

    Args:
        body: A JSON object.
        by_default: What an absent `store` means: True for OpenAI's Responses, False for chats.
    """
    if not by_default and b"store" not in body and b"\\u" not in body:
        return False
    if len(body) > MAX_LOOKED_INTO:
        return True
    try:
        store = json.loads(body).get("store")
    except (ValueError, RecursionError, AttributeError):
        return True
    return by_default if store is None else store is not False
