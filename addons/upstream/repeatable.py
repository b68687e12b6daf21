"""Which requests may be sent to an upstream again, if the first attempt was lost with its connection.

The upstream may have read the whole first attempt. So the request has to be idempotent (RFC 9110, 9.2.2): GET, HEAD,
and those POST requests that only compute a response.
"""

import json

from mitmproxy import http

from addons.exchange.route import Route
from addons.routing.routes import RERANK, SCORE

MAX_LOOKED_INTO = 64 * 1024
"""Bytes of a body up to which it is parsed for its `store`, which takes a millisecond at this size."""

RESPONSES = "/v1/responses"

COMPUTES_ONLY = frozenset(
    {"/v1/chat/completions", "/v1/completions", "/v1/embeddings", RERANK, SCORE, RESPONSES, "/v1/tokenize"}
)
"""Routes of POST requests whose only effect is their response, unless they request that it be stored."""


def is_repeatable(request: http.Request, route: Route, body: bytes) -> bool:
    """Whether a request may be sent again.

    Args:
        request: The head of the request.
        route: The route of the request.
        body: The whole body as forwarded.
    """
    method = request.data.method
    if method in (b"GET", b"HEAD"):
        return True
    return method == b"POST" and route.name in COMPUTES_ONLY and not stores(body, by_default=route.name == RESPONSES)


def stores(body: bytes, *, by_default: bool) -> bool:
    """Whether a request asks that its response be stored; also True for a large body, and one that is not JSON.

    Args:
        body: A JSON object.
        by_default: The meaning of an absent `store`: True for OpenAI's Responses, False for chats.
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
