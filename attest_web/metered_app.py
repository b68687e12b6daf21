"""Counts the requests of the side port; those of the proxied port are counted where all others are."""

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from attest_web.errors import error_type
from attest_web.metrics import METHODS, Metrics
from attest_web.page_paths import page_name

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class MeteredApp:
    """A WSGI application whose requests are counted."""

    def __init__(self, app: "WSGIApplication", metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Handle a request."""
        began = time.perf_counter()
        path = environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")
        route = page_name(path) or "other"
        method = environ["REQUEST_METHOD"] if environ["REQUEST_METHOD"] in METHODS else "other"

        def started(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            code = int(status[:3])
            self._metrics.requests.labels(route, method, code).inc()
            self._metrics.durations.labels(route).observe(time.perf_counter() - began)
            if code in (401, 429):
                self._metrics.refusals.labels(error_type(code)).inc()
            return start_response(status, headers, exc_info)

        return self._app(environ, started)
