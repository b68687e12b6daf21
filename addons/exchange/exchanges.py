"""The one look-up from a flow to the record of its exchange.

It is a `WeakKeyDictionary`, and not the flow's `metadata`: mitmproxy serialises that for `-w` and for mitmweb, and a
record has fields that cannot be serialised, or must not be. A record is freed with its flow, however that has ended,
without a hook that removes it. This requires that no record refers to its flow, directly or indirectly: the table
refers to the record, and a weak key does not free a flow that its value keeps alive.
"""

from collections.abc import Callable
from weakref import WeakKeyDictionary

from mitmproxy.flow import Flow
from mitmproxy.http import HTTPFlow

from addons.exchange.record import Exchange
from addons.exchange.route import Route


class Exchanges:
    """The exchanges of all existing flows. Only for the event loop's thread."""

    def __init__(self, route_of: Callable[[HTTPFlow], Route]) -> None:
        """Start without exchanges.

        Args:
            route_of: Finds the route of a flow's request. Called once for each flow, at its first look-up: the path of
                the request may be changed later.
        """
        self._route_of = route_of
        self._records: WeakKeyDictionary[Flow, Exchange] = WeakKeyDictionary()

    def of(self, flow: HTTPFlow) -> Exchange:
        """The exchange of a flow, the same object each time; made at the first look-up."""
        exchange = self._records.get(flow)
        if exchange is None:
            exchange = self._records[flow] = Exchange(self._route_of(flow), flow.client_conn.peername)
        return exchange

    def find(self, flow: Flow | None) -> Exchange | None:
        """The exchange of a flow; None if the flow did not pass this proxy, such as a copy or one from a file."""
        return None if flow is None else self._records.get(flow)

    def flows(self) -> list[HTTPFlow]:
        """All existing flows, under way or kept to be shown, in the order of their first look-ups."""
        flows = (reference() for reference in self._records.keyrefs())
        return [flow for flow in flows if isinstance(flow, HTTPFlow)]

    def open_streams(self) -> int:
        """Number of event streams under way."""
        return sum(exchange.is_stream for exchange in self._records.values())
