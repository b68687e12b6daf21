"""The one look-up from a flow to the record of its exchange.

It is a `WeakKeyDictionary`, and not the flow's `metadata`: mitmproxy serialises that for `-w` and for mitmweb, and a
record holds what cannot be serialised, and what must not be. The record is gone when its flow is, however that has
ended, without a hook that takes it out. That holds only as long as no record refers to its flow, directly or not: the
table refers to the record, and a weak key does not help a value that keeps it alive.
"""

from collections.abc import Callable
from weakref import WeakKeyDictionary

from mitmproxy.flow import Flow
from mitmproxy.http import HTTPFlow

from addons.exchange.record import Exchange
from addons.exchange.route import Route


class Exchanges:
    """The exchanges of all flows that there are. For the event loop alone."""

    def __init__(self, route_of: Callable[[HTTPFlow], Route]) -> None:
        """Begin with none.

        Args:
            route_of: Finds the route of a flow's request. It is asked once for a flow, at first sight: a request may be
                redirected later, and its path is another one then.
        """
        self._route_of = route_of
        self._records: WeakKeyDictionary[Flow, Exchange] = WeakKeyDictionary()

    def of(self, flow: HTTPFlow) -> Exchange:
        """The exchange of a flow, the same object each time; begun here at first sight of the flow."""
        exchange = self._records.get(flow)
        if exchange is None:
            exchange = self._records[flow] = Exchange(self._route_of(flow), flow.client_conn.peername)
        return exchange

    def find(self, flow: Flow | None) -> Exchange | None:
        """The exchange of a flow; None of one that has not passed here, such as a copy or one from a file."""
        return None if flow is None else self._records.get(flow)

    def flows(self) -> list[HTTPFlow]:
        """All flows that there are, under way or kept by something that shows them, in the order of their coming."""
        flows = (reference() for reference in self._records.keyrefs())
        return [flow for flow in flows if isinstance(flow, HTTPFlow)]

    def open_streams(self) -> int:
        """How many event streams are under way."""
        return sum(exchange.is_stream for exchange in self._records.values())
