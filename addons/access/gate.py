"""The gate: checks the token and the size of each request by its headers."""

import re
from collections.abc import Mapping

from mitmproxy import http

from addons.exchange.exchanges import Exchanges
from addons.exchange.route import Kind, Size
from addons.messages.hop_by_hop import end_to_end
from addons.messages.responses import reject, speaks_anthropic
from addons.messages.websocket_handshake import VERSION, Handshake
from attest_web.middleware.auth import Tokens
from attest_web.middleware.e2ee_headers import UNSUPPORTED, asks_for_encryption

_CREDENTIALS = frozenset({b"authorization", b"proxy-authorization", b"x-api-key", b"api-key", b"cookie"})
_WEBSOCKET = b"sec-websocket-"
"""Prefix of the names of the headers of a WebSocket's handshake, in addition to the hop-by-hop ones."""
_BAD_IN_VALUE = re.compile(rb"[\r\n\0]")


class Gate:
    """Rejects requests without a valid token and requests that are too large, by their headers.

    Attributes:
        tokens: The valid tokens. A request needs one that is valid when its head arrives.
    """

    def __init__(self, tokens: Tokens, sizes: Mapping[Size, int], exchanges: Exchanges) -> None:
        """Make a gate.

        Args:
            tokens: The valid tokens.
            sizes: Largest request bodies, in bytes.
            exchanges: The records, from which routes are read and in which credentials are noted.
        """
        self.tokens = tokens
        self._sizes = sizes
        self._exchanges = exchanges

    def body_limit(self, flow: http.HTTPFlow) -> int:
        """Largest body of this flow's request, in bytes."""
        return self._sizes[self._exchanges.of(flow).route.size]

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Let the request pass, or reject it."""
        request = flow.request
        exchange = self._exchanges.of(flow)
        route = exchange.route
        handshake = None if route.kind is Kind.PROOF else Handshake.read(request)
        credential = self.tokens.credential(_credentials(request, handshake))
        may_enter = credential is not None
        if credential is None:
            handshake = None
        elif route.kind is Kind.SIGNED or handshake is not None:
            exchange.credential = credential
        _drop_headers(request)
        if flow.error is not None or flow.response is not None:  # it was rejected before
            return
        if request.http_version not in ("HTTP/1.0", "HTTP/1.1"):
            reject(flow, 400, "Only HTTP/1.0 and HTTP/1.1 are spoken here.")
        elif any(_BAD_IN_VALUE.search(value) for _, value in request.headers.fields):
            reject(flow, 400, "A header has a line break or a NUL in it.")
        elif route.needs_token and not may_enter:
            reject(flow, 401, "A valid token is needed: send Authorization: Bearer <token>.")
        elif route.kind is not Kind.PROOF and asks_for_encryption(name for name, _ in request.headers.fields):
            reject(flow, 400, UNSUPPORTED, kind="e2ee_unsupported")
        elif _content_length(request) > (limit := self._sizes[route.size]):
            reject(flow, 413, f"The request body is larger than {limit} bytes.")
        elif handshake is not None and handshake.problem is not None:
            _refuse_handshake(flow, *handshake.problem)
        else:
            request.stream = route.kind is not Kind.PROOF  # small JSON is held: see `addons.layers.stream`
            if handshake is not None:
                handshake.write(request)


def _refuse_handshake(flow: http.HTTPFlow, status: int, message: str) -> None:
    reject(flow, status, message)
    if status == 426 and flow.response is not None:  # RFC 9110, 15.5.22; RFC 6455, 4.4
        flow.response.headers["connection"] = "upgrade"
        flow.response.headers["upgrade"] = "websocket"
        flow.response.headers["sec-websocket-version"] = VERSION


def _credentials(request: http.Request, handshake: Handshake | None) -> bytes:
    """The value of a request's authorization, in the bytes of the wire."""
    authorization = request.headers.get("authorization")
    if authorization is None and (key := request.headers.get("x-api-key")) is not None and speaks_anthropic(request):
        authorization = f"Bearer {key}"
    if authorization is None and handshake is not None:
        return handshake.authorization
    # The reverse of mitmproxy's decoding of header bytes.
    return (authorization or "").encode("utf-8", "surrogateescape")


def _drop_headers(request: http.Request) -> None:
    """Remove the headers that are only for this proxy.

    Credentials must reach neither the upstream nor what shows or saves flows, however their names are spelt. And no
    connection may become a tunnel past the signer: a change of protocol is ignored (RFC 9110, 7.8), except for the
    handshake of a WebSocket, whose headers are written again if the request is accepted.
    """
    kept = []
    for name, value in end_to_end(request.headers.fields):
        bare = name.strip().lower()
        if bare not in _CREDENTIALS and not bare.startswith(_WEBSOCKET):
            kept.append((name, value))
    if len(kept) != len(request.headers.fields):
        request.headers.fields = tuple(kept)
    request.authority = ""  # of a target in absolute form, which does not choose the upstream


def _content_length(request: http.Request) -> int:
    value = request.headers.get("content-length", "0")
    return int(value) if re.fullmatch(r"[0-9]{1,18}", value) else 0
