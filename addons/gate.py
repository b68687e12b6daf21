"""The gate: who may come in, and with how much."""

import re

from mitmproxy import http

from addons.answers import error_answer
from addons.routes import Kind, find_route
from attest_web.auth import Tokens

MAX_PROOF_REQUEST = 64 * 1024
"""Largest body of a request to a proof page, in bytes. They take none; a client may send one all the same."""

_CREDENTIALS = frozenset({b"authorization", b"proxy-authorization", b"x-api-key", b"api-key", b"cookie"})
_UPGRADE = frozenset({b"upgrade", b"http2-settings"})
_BAD_IN_VALUE = re.compile(rb"[\r\n\0]")


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
        return MAX_PROOF_REQUEST if find_route(request).kind is Kind.PROOF else self._max_request_size

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Let the request pass, or set its answer."""
        request = flow.request
        route = find_route(request)
        authorization = request.headers.get("authorization")
        _drop_headers(request)
        if flow.error is not None:  # mitmproxy has refused it already
            return
        if request.http_version not in ("HTTP/1.0", "HTTP/1.1"):
            _refuse(flow, 400, "Only HTTP/1.0 and HTTP/1.1 are spoken here.")
        elif any(_BAD_IN_VALUE.search(value) for _, value in request.headers.fields):
            _refuse(flow, 400, "A header has a line break or a NUL in it.")
        # mitmproxy decodes header bytes so; this gives back the bytes of the wire.
        elif route.needs_token and not self._tokens.accept((authorization or "").encode("utf-8", "surrogateescape")):
            _refuse(flow, 401, "A valid token is needed: send Authorization: Bearer <token>.")
        elif route.kind is Kind.PASSED:
            request.stream = True
        else:
            request.stream = False
            limit = self.body_limit(request)
            if _content_length(request) > limit:
                _refuse(flow, 413, f"The request body is larger than {limit} bytes.")

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """End a connection whose upstream changes the protocol, which nobody has asked it for."""
        if flow.response is not None and flow.response.status_code == 101:
            flow.kill()


def _drop_headers(request: http.Request) -> None:
    """Take out what is for this proxy alone.

    Neither the upstream nor anything that shows or saves flows has use for credentials, however they are spelt. And
    nobody who has no token may turn a connection into a tunnel: until WebSockets are signed, nobody may at all.
    """
    kept = []
    for name, value in request.headers.fields:
        bare = name.strip().lower()
        if bare == b"connection" and b"upgrade" in value.lower():
            continue
        if bare not in _CREDENTIALS and bare not in _UPGRADE:
            kept.append((name, value))
    if len(kept) != len(request.headers.fields):
        request.headers.fields = tuple(kept)
    request.authority = ""  # of a target in absolute form: it goes where all go


def _content_length(request: http.Request) -> int:
    value = request.headers.get("content-length", "0")
    return int(value) if re.fullmatch(r"[0-9]{1,18}", value) else 0


def _refuse(flow: http.HTTPFlow, status: int, message: str) -> None:
    # With both set, ApiHttpStream answers at once and buffers nothing. Without `expect`, no 100 is sent before it.
    flow.response = error_answer(status, message, flow.request.method)
    if status == 400:
        flow.response.headers["connection"] = "close"  # who knows what the rest of it was meant to be
    flow.request.stream = True
    flow.request.headers.pop("expect", None)
