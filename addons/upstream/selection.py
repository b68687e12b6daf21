"""The addon that directs each request to the target that the upstream policy chooses."""

from mitmproxy import http

from addons.exchange.exchanges import Exchanges
from addons.exchange.route import Kind
from addons.upstream.policy import UpstreamPolicy
from addons.upstream.target import direct


class UpstreamSelection:
    """Directs the requests that were accepted and are for an upstream."""

    def __init__(self, policy: UpstreamPolicy, exchanges: Exchanges) -> None:
        """Make the addon.

        Args:
            policy: Chooses the target of each request.
            exchanges: The records, from which routes are read and in which targets are noted.
        """
        self._policy = policy
        self._exchanges = exchanges

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Direct a request. An operator's addon may change its target later."""
        exchange = self._exchanges.of(flow)
        if flow.response is None and flow.error is None and exchange.route.kind is not Kind.PROOF:
            exchange.target = self._policy.choose(exchange, flow.request)
            direct(flow.request, exchange.target)
