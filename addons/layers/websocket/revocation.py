"""Ends WebSockets whose token was revoked: what is said on them asks the model for something, again and again."""

from collections.abc import Iterable
from weakref import WeakSet

from mitmproxy import ctx, http

from addons.exchange.record import Exchanges
from addons.layers.websocket.layer import WebsocketRevoked
from attest_web.middleware.auth import Tokens


class Revocation:
    """An addon that replaces the tokens."""

    def __init__(self, tokens: Tokens, exchanges: Exchanges) -> None:
        """Make the addon.

        Args:
            tokens: What clients must send one of.
            exchanges: Know whose token each WebSocket was opened with.
        """
        self._tokens = tokens
        self._exchanges = exchanges
        self._websockets: WeakSet[http.HTTPFlow] = WeakSet()

    def websocket_start(self, flow: http.HTTPFlow) -> None:
        """Take note of a WebSocket."""
        self._websockets.add(flow)
        self._end_if_revoked(flow)  # during its handshake

    def websocket_end(self, flow: http.HTTPFlow) -> None:
        """Forget it."""
        self._websockets.discard(flow)

    def replace_tokens(self, tokens: Iterable[str]) -> None:
        """Have other tokens count from now on.

        Raises:
            ValueError: There is none.
        """
        self._tokens.replace(tokens)
        for flow in list(self._websockets):
            self._end_if_revoked(flow)

    def _end_if_revoked(self, flow: http.HTTPFlow) -> None:
        proxyserver = ctx.master.addons.get("proxyserver")
        is_revoked = not self._tokens.knows(self._exchanges.of(flow).credential)
        if is_revoked and flow.client_conn.id in proxyserver.connections:
            proxyserver.inject_event(WebsocketRevoked(flow, None))
