"""The gate: who may come in, and with how much."""

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
"""How the names of headers begin that the handshake of a WebSocket takes, beside those for one hop alone."""
_BAD_IN_VALUE = re.compile(rb"[\r\n\0]")


class Gate:
    """Refuses requests without a token and requests that are too large, on their headers alone; lets the others in.

    Attributes:
        tokens: What opens it. Each request is asked for one of those that there are when its head has come.
    """

    def __init__(self, tokens: Tokens, sizes: Mapping[Size, int], exchanges: Exchanges) -> None:
        """Make a gate.

        Args:
            tokens: What opens it.
            sizes: Largest request bodies, in bytes.
            exchanges: Know the requests' routes, and are told whose token each has come with.
        """
        self.tokens = tokens
        self._sizes = sizes
        self._exchanges = exchanges

    def body_limit(self, flow: http.HTTPFlow) -> int:
        """Largest body of this flow's request, in bytes."""
        return self._sizes[self._exchanges.of(flow).route.size]

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Let the request pass, or set its response."""
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
        if flow.error is not None or flow.response is not None:  # somebody has refused it already
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
    """The authorization that a request bears, as it was on the wire."""
    authorization = request.headers.get("authorization")
    if authorization is None and (key := request.headers.get("x-api-key")) is not None and speaks_anthropic(request):
        authorization = f"Bearer {key}"
    if authorization is None and handshake is not None:
        return handshake.authorization
    # mitmproxy decodes header bytes so; this gives back the bytes of the wire.
    return (authorization or "").encode("utf-8", "surrogateescape")


def _drop_headers(request: http.Request) -> None:
    """Take out what is for this proxy alone.

    Neither the upstream nor anything that shows or saves flows has use for credentials, however they are spelt. And
    nobody may turn a connection into a tunnel past the signer: a change of protocol is ignored (RFC 9110, 7.8), but for
    the handshake of a WebSocket, which is put back in when there is nothing against it.
    """
    kept = []
    for name, value in end_to_end(request.headers.fields):
        bare = name.strip().lower()
        if bare not in _CREDENTIALS and not bare.startswith(_WEBSOCKET):
            kept.append((name, value))
    if len(kept) != len(request.headers.fields):
        request.headers.fields = tuple(kept)
    request.authority = ""  # of a target in absolute form: it goes where all go


def _content_length(request: http.Request) -> int:
    value = request.headers.get("content-length", "0")
    return int(value) if re.fullmatch(r"[0-9]{1,18}", value) else 0
