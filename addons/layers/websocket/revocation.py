"""Ends WebSockets whose token was revoked, as each message on them may be a request to the upstream."""

from collections.abc import Callable, Iterable
from contextlib import suppress

from mitmproxy import http

from addons.exchange.exchanges import Exchanges
from addons.layers.websocket.layer import WebsocketRevoked
from attest_web.middleware.auth import Tokens


class Revocation:
    """An addon that replaces the valid tokens."""

    def __init__(self, tokens: Tokens, exchanges: Exchanges, inject: Callable[[WebsocketRevoked], None]) -> None:
        """Make the addon.

        Args:
            tokens: The valid tokens.
            exchanges: The records, which tell the open WebSockets and their credentials.
            inject: Passes an event to the layers of its flow, as `Proxyserver.inject_event` does. Raises ValueError if
                the connection has ended.
        """
        self._tokens = tokens
        self._exchanges = exchanges
        self._inject = inject

    def websocket_start(self, flow: http.HTTPFlow) -> None:
        """End a WebSocket whose token was revoked during its handshake."""
        self._end_if_revoked(flow)

    def replace_tokens(self, tokens: Iterable[str]) -> None:
        """Replace the valid tokens, and end the WebSockets of revoked ones.

        Raises:
            ValueError: There is no token.
        """
        self._tokens.replace(tokens)
        for flow in self._exchanges.flows():
            if flow.websocket is not None and flow.websocket.timestamp_end is None:
                self._end_if_revoked(flow)

    def _end_if_revoked(self, flow: http.HTTPFlow) -> None:
        if not self._tokens.knows(self._exchanges.of(flow).credential):
            with suppress(ValueError):
                self._inject(WebsocketRevoked(flow, None))
