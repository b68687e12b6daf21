"""The one look-up from a flow to the record of its exchange.

It is a `WeakKeyDictionary`, and not the flow's `metadata`: mitmproxy serialises that for `-w` and for mitmweb, and a
record holds what cannot be serialised, and what must not be. The record is gone when its flow is, however that has
ended, without a hook that takes it out. That holds only as long as no record refers to its flow, directly or not: the
table refers to the record, and a weak key does not help a value that keeps it alive.
"""

from collections.abc import Callable
from weakref import WeakKeyDictionary

from mitmproxy import flow, http

from addons.exchange.record import Exchange
from addons.exchange.route import Route


class Exchanges:
    """The exchanges of all flows that there are. For the event loop alone."""

    def __init__(self, route_of: Callable[[http.HTTPFlow], Route]) -> None:
        """Begin with none.

        Args:
            route_of: Finds the route of a flow's request. It is asked once for a flow, at first sight: a request may be
                redirected later, and its path is another one then.
        """
        self._route_of = route_of
        self._records: WeakKeyDictionary[flow.Flow, Exchange] = WeakKeyDictionary()

    def of(self, of: http.HTTPFlow) -> Exchange:
        """The exchange of a flow, the same object each time; begun here at first sight of the flow."""
        exchange = self._records.get(of)
        if exchange is None:
            exchange = self._records[of] = Exchange(self._route_of(of), of.client_conn.peername)
        return exchange

    def find(self, of: flow.Flow | None) -> Exchange | None:
        """The exchange of a flow; None of one that has not passed here, such as a copy or one from a file."""
        return None if of is None else self._records.get(of)

    def flows(self) -> list[http.HTTPFlow]:
        """All flows that there are, under way or kept by something that shows them, in the order of their coming."""
        flows = (reference() for reference in self._records.keyrefs())
        return [of for of in flows if isinstance(of, http.HTTPFlow)]

    def open_streams(self) -> int:
        """How many event streams are under way."""
        return sum(exchange.is_stream for exchange in self._records.values())

    def mark_changed(self, of: http.HTTPFlow) -> None:
        """Take note that a flow's request was changed here after it was received."""
        self.of(of).changed = True

    def mark_left(self, of: http.HTTPFlow) -> None:
        """Take note that it is the client of a flow that gives up; the error hook follows."""
        self.of(of).left_by_client = True

    def mark_answered(self, of: http.HTTPFlow, response: http.Response) -> None:
        """Take note of a response that the layers make by themselves; the error hook may follow."""
        self.of(of).layers_status = response.status_code
