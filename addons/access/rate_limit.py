"""Turns away clients that ask too often, on the headers alone, before anything looks at their token."""

from mitmproxy import http
from mitmproxy.connection import Client

from addons.access.client_addresses import ClientAddresses
from addons.messages.responses import reject
from addons.routing.routes import request_path
from attest_web.middleware.rate_limit import TOO_MANY, RateLimiter, budget_of


class RateLimit:
    """Answers with 429 where the limiter says so."""

    def __init__(self, limiter: RateLimiter, addresses: ClientAddresses) -> None:
        """Count for a limiter.

        Args:
            limiter: Knows how often each client has asked.
            addresses: Tell clients apart.
        """
        self._limiter = limiter
        self._addresses = addresses

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Count the request, and refuse it where it is one too many."""
        budget = budget_of(request_path(flow.request))
        if flow.error is not None or flow.response is not None or budget is None:
            return
        wait = self._limiter.seconds_to_wait(self._addresses.client_of(flow), budget)
        if wait is not None:
            reject(flow, 429, TOO_MANY, {"retry-after": str(wait)})

    def unreadable(self, client: Client) -> None:
        """Count a request whose head could not be read, for the client at the other end of the connection.

        The layers refuse it by themselves, and close the connection.
        """
        self._limiter.seconds_to_wait(self._addresses.peer_of(client))
