"""Ends connections whose clients go on asking after they were told, several times, that they ask too much."""

from collections.abc import Callable
from typing import Final
from weakref import WeakKeyDictionary

from mitmproxy import http
from mitmproxy.connection import Client

from addons.exchange.exchanges import Exchanges

MOST: Final = 8
"""Answers with 429 that a connection gets one after the other; with the last of them, it is closed."""


class RefusalLimit:
    """Counts the 429 of this proxy's own on each connection. What the model server refuses is its own affair."""

    def __init__(self, exchanges: Exchanges, close_soon: Callable[[Client], None]) -> None:
        """Count for all connections.

        Args:
            exchanges: Know whether a response was made here.
            close_soon: Has a connection closed behind the response that is under way. Over HTTP/2, nothing in a
                response can say so.
        """
        self._exchanges = exchanges
        self._close_soon = close_soon
        # Weak: what is known of a connection goes with it.
        self._refusals: WeakKeyDictionary[Client, int] = WeakKeyDictionary()

    def response(self, flow: http.HTTPFlow) -> None:
        """Count a response."""
        if flow.response is None or self._exchanges.of(flow).upstream_status is not None:
            self._refusals.pop(flow.client_conn, None)
        elif flow.response.status_code == 429:
            refusals = self._refusals.get(flow.client_conn, 0) + 1
            self._refusals[flow.client_conn] = refusals
            if refusals >= MOST:
                flow.response.headers["connection"] = "close"
                self._close_soon(flow.client_conn)
        elif flow.response.status_code < 400:
            self._refusals.pop(flow.client_conn, None)
