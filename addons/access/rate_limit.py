"""Rejects the requests of clients that exceed the rate limit, by their headers, before the token is checked."""

from mitmproxy import http
from mitmproxy.connection import Client

from addons.access.client_addresses import ClientAddresses
from addons.messages.responses import reject
from addons.routing.routes import request_path
from attest_web.middleware.rate_limit import TOO_MANY, RateLimiter, budget_of


class RateLimit:
    """Rejects requests that exceed the rate limit with 429."""

    def __init__(self, limiter: RateLimiter, addresses: ClientAddresses) -> None:
        """Make the addon.

        Args:
            limiter: Has a token bucket for each client.
            addresses: Finds the client of a request.
        """
        self._limiter = limiter
        self._addresses = addresses

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Count the request, and reject it if it exceeds the limit."""
        budget = budget_of(request_path(flow.request))
        if flow.error is not None or flow.response is not None or budget is None:
            return
        wait = self._limiter.seconds_to_wait(self._addresses.client_of(flow), budget)
        if wait is not None:
            reject(flow, 429, TOO_MANY, {"retry-after": str(wait)})

    def unreadable(self, client: Client) -> None:
        """Count a request whose head could not be read, for the client of the connection.

        The layers reject it themselves, and close the connection.
        """
        self._limiter.seconds_to_wait(self._addresses.peer_of(client))
