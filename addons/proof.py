"""The proof pages, on the proxied port and on the side port."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from mitmproxy import http

from addons import wsgi
from addons.answers import error_answer
from addons.routes import Kind, Router
from attest_web.daemon_threads import DaemonThreads
from attest_web.report_desk import MAX_MAKING, MAX_SHARING

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

MAX_WAITING = 256
"""Requests to proof pages that may be under way on the proxied port at once."""


SLOW_PATHS = frozenset({"/ready", "/metrics", "/v1/attestation/report"})
"""Pages that wait for others. They have threads of their own, so that nobody waits for them who wants a signature."""


class ProofPages:
    """Answers requests to the proof pages, off the event loop: a slow page delays no token."""

    def __init__(
        self,
        app: "WSGIApplication",
        router: Router,
        closing: Sequence[Callable[[], None]] = (),
    ) -> None:
        """Take over the pages.

        Args:
            app: The proof pages.
            router: Knows the requests' routes.
            closing: What else ends with the proxy.
        """
        self._app = app
        self._router = router
        self._closing = closing
        self._threads = DaemonThreads("proof page", 4)
        self._slow_threads = DaemonThreads("slow proof page", MAX_MAKING + MAX_SHARING + 4)
        self._waiting = 0
        self._authorizations: WeakKeyDictionary[http.HTTPFlow, str] = WeakKeyDictionary()

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Take the authorization along for the pages, which check it themselves; the gate takes it out of the flow."""
        if "authorization" in flow.request.headers and self._is_proof(flow):
            self._authorizations[flow] = flow.request.headers["authorization"]

    def request(self, flow: http.HTTPFlow) -> Coroutine[Any, Any, None] | None:
        """Answer a request to a proof page; of any other, there is nothing to wait for."""
        return self._answer(flow) if flow.response is None and self._is_proof(flow) else None

    async def _answer(self, flow: http.HTTPFlow) -> None:
        authorization = self._authorizations.pop(flow, None)
        if self._waiting >= MAX_WAITING:
            flow.response = error_answer(503, "Too many requests to the proof pages at once. Try again in a second.")
            flow.response.headers["retry-after"] = "1"
            return
        peername = flow.client_conn.peername
        environ = wsgi.environ_of(flow.request, peername[0] if peername else "")
        if authorization is not None:
            # mitmproxy decodes header bytes in the one way, WSGI in the other.
            environ["HTTP_AUTHORIZATION"] = authorization.encode("utf-8", "surrogateescape").decode("latin-1")
        self._waiting += 1
        try:
            threads = self._slow_threads if environ["PATH_INFO"] in SLOW_PATHS else self._threads
            flow.response = await asyncio.wrap_future(threads.submit(wsgi.call, self._app, environ))
        finally:
            self._waiting -= 1

    def done(self) -> None:
        """Stop the threads and what the pages use."""
        for close in self._closing:
            close()
        self._threads.close()
        self._slow_threads.close()

    def _is_proof(self, flow: http.HTTPFlow) -> bool:
        return self._router.route_of(flow).kind is Kind.PROOF
