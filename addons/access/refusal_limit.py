"""Closes connections whose clients keep sending requests after several responses of 429."""

from collections.abc import Callable
from typing import Final
from weakref import WeakKeyDictionary

from mitmproxy import http
from mitmproxy.connection import Client

from addons.exchange.exchanges import Exchanges

MOST: Final = 8
"""Most consecutive responses of 429 on a connection; it is closed after the last of them."""


class RefusalLimit:
    """Counts this proxy's own responses of 429 on each connection, and not those of the upstream."""

    def __init__(self, exchanges: Exchanges, close_soon: Callable[[Client], None]) -> None:
        """Make the addon.

        Args:
            exchanges: The records, which tell whether a response is this proxy's own.
            close_soon: Closes a connection after the current response. HTTP/2 has no header for that.
        """
        self._exchanges = exchanges
        self._close_soon = close_soon
        # Weak: an entry is removed with its connection.
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
