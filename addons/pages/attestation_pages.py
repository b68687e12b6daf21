"""The proof pages, on the proxied port and on the side port."""

from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from mitmproxy import http

from addons.access.client_addresses import ClientAddresses, address_of
from addons.exchange.exchanges import Exchanges
from addons.exchange.record import Exchange
from addons.exchange.route import Kind
from addons.messages.responses import error_response
from addons.pages import wsgi
from addons.pages.page_queue import PageQueue, QueueFullError, ShareFullError
from attest_web.attestation.report_cache import MAX_MAKING, MAX_SHARING
from attest_web.page_paths import REPORT, SIGNATURE_PREFIX

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


class AttestationPages:
    """Serves the pages in threads, so that a slow page does not block the event loop."""

    def __init__(
        self,
        app: "WSGIApplication",
        exchanges: Exchanges,
        addresses: ClientAddresses,
        closing: Sequence[Callable[[], None]] = (),
    ) -> None:
        """Make the queues; no thread starts yet.

        Args:
            app: The pages, as a WSGI application (PEP 3333).
            exchanges: The records, which have the routes.
            addresses: Finds the client in whose share a request counts.
            closing: Functions that are called when the proxy stops.
        """
        self._app = app
        self._exchanges = exchanges
        self._addresses = addresses
        self._closing = closing
        self._signatures = PageQueue("signature page", threads=4, most=256, most_per_client=64)
        # A thread for each report that may be made or waited for, and some for cached ones.
        self._reports = PageQueue("report page", threads=MAX_MAKING + MAX_SHARING + 2, most=64, most_per_client=16)
        # These pages wait for the upstream, for GPUs and for other workers.
        self._states = PageQueue("state page", threads=4, most=64, most_per_client=16)
        self._others = PageQueue("other page", threads=2, most=128, most_per_client=32)

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Keep the credential for the pages, which check it themselves; the gate removes it from the flow."""
        exchange = self._exchanges.of(flow)
        if exchange.route.kind is Kind.PROOF:
            exchange.authorization = flow.request.headers.get("authorization")

    def request(self, flow: http.HTTPFlow) -> Coroutine[Any, Any, None] | None:
        """Respond to a request for a page; return None for any other."""
        exchange = self._exchanges.of(flow)
        if flow.response is not None or exchange.route.kind is not Kind.PROOF:
            return None
        return self._answer(flow, exchange)

    async def _answer(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        authorization, exchange.authorization = exchange.authorization, None
        environ = wsgi.environ_of(flow.request, address_of(exchange.peer))
        if authorization is not None:
            # mitmproxy decodes header bytes as UTF-8, WSGI as Latin-1.
            environ["HTTP_AUTHORIZATION"] = authorization.encode("utf-8", "surrogateescape").decode("latin-1")
        queue, client = self._queue(environ["PATH_INFO"]), self._addresses.sharer_of(flow)
        try:
            flow.response = await queue.call(client, wsgi.call, self._app, environ)
        except ShareFullError:
            flow.response = _busy(429, "Too many requests from your address at once. Try again in a second.", flow)
        except QueueFullError:
            flow.response = _busy(503, "Too many requests to the proof pages at once. Try again in a second.", flow)

    def _queue(self, path: str) -> PageQueue:
        if path.startswith(SIGNATURE_PREFIX):
            return self._signatures
        if path == REPORT:
            return self._reports
        return self._states if path in ("/ready", "/metrics") else self._others

    def done(self) -> None:
        """Stop the threads and what the pages use."""
        for close in self._closing:
            close()
        for queue in (self._signatures, self._reports, self._states, self._others):
            queue.close()


def _busy(status: int, message: str, flow: http.HTTPFlow) -> http.Response:
    response = error_response(status, message, flow.request)
    response.headers["retry-after"] = "1"
    return response
