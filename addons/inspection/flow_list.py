"""Bounds the list of flows that mitmweb and the console show (mitmproxy issue 8246)."""

from collections.abc import Sequence

from mitmproxy import http
from mitmproxy.addons.view import View


class FlowList:
    """Removes the oldest flows from the list when there are too many.

    A flow that is under way stays, whatever its age: of those, there are no more than clients may have open at once.
    """

    def __init__(self, view: View, most: int) -> None:
        """Bound a list.

        Args:
            view: mitmproxy's list of flows.
            most: How many flows it keeps at most, beside those that are under way.
        """
        self._view = view
        self._most = most

    def requestheaders(self, flow: http.HTTPFlow) -> None:  # noqa: ARG002  # the hook's signature
        """Make room for a flow, which mitmproxy adds to the list after this."""
        self._keep(self._most - 1)

    def response(self, flow: http.HTTPFlow) -> None:  # noqa: ARG002
        """Remove what could not be removed while it was under way."""
        self._keep(self._most)

    def error(self, flow: http.HTTPFlow) -> None:  # noqa: ARG002
        """Remove what could not be removed while it was under way."""
        self._keep(self._most)

    def _keep(self, number: int) -> None:
        surplus = self._view.store_count() - number
        if surplus <= 0:
            return
        oldest: Sequence[object] = self._view.resolve("@all")
        for flow in oldest:
            if surplus <= 0:
                return
            if isinstance(flow, http.HTTPFlow) and flow.live:
                continue
            self._view.remove([flow])  # mitmproxy logs a removal of more than one at once
            surplus -= 1
