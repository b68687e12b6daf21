"""The gate: who may come in, and with how much."""

import re

from mitmproxy import http

from addons.answers import error_answer
from addons.routes import Kind, find_route
from attest_web.auth import Tokens

MAX_PROOF_REQUEST = 64 * 1024
"""Largest body of a request to a proof page, in bytes. They take none; a client may send one all the same."""


class Gate:
    """Refuses requests without a token and requests that are too large, on their headers alone."""

    def __init__(self, tokens: Tokens, max_request_size: int) -> None:
        """Make a gate.

        Args:
            tokens: What opens it.
            max_request_size: Largest body of a signed request, in bytes.
        """
        self._tokens = tokens
        self._max_request_size = max_request_size

    def body_limit(self, request: http.Request) -> int:
        """Largest body of this request that may be buffered, in bytes."""
        route = find_route(request.method, request.path)
        return MAX_PROOF_REQUEST if route.kind is Kind.PROOF else self._max_request_size

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Let the request pass, or set its answer."""
        request = flow.request
        route = find_route(request.method, request.path)
        authorization = request.headers.get("authorization")
        # It is for this proxy alone: neither the upstream nor anything that shows or saves flows has use for it.
        request.headers.pop("authorization", None)
        if flow.error is not None:  # mitmproxy has refused it already
            return
        # mitmproxy decodes header bytes so; this gives back the bytes of the wire.
        if route.needs_token and not self._tokens.accept((authorization or "").encode("utf-8", "surrogateescape")):
            _refuse(flow, error_answer(401, "A valid token is needed: send Authorization: Bearer <token>."))
            return
        if route.kind is Kind.PASSED:
            request.stream = True
            return
        request.stream = False
        limit = self.body_limit(request)
        if _content_length(request) > limit:
            _refuse(flow, error_answer(413, f"The request body is larger than {limit} bytes."))


def _content_length(request: http.Request) -> int:
    value = request.headers.get("content-length", "0")
    return int(value) if re.fullmatch(r"[0-9]{1,18}", value) else 0


def _refuse(flow: http.HTTPFlow, answer: http.Response) -> None:
    # With both set, ApiHttpStream answers at once and buffers nothing. Without `expect`, no 100 is sent before it.
    flow.response = answer
    flow.request.stream = True
    flow.request.headers.pop("expect", None)
