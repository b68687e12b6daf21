"""Reports each request once, when it is over, to metrics, log and traces.

It is the last addon of the chain, after all that may set the outcome. What happens for every event of a stream is
recorded where the event passes (`addons.exchange.token_times`); the hooks here run a few times a request.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final

from mitmproxy import http
from mitmproxy.connection import ConnectionState

from addons.exchange.exchanges import Exchanges
from addons.exchange.record import Exchange
from addons.exchange.route import Kind
from addons.exchange.summary import Summary
from addons.messages.content_coding import is_not_encoded
from addons.messages.request_id import is_usable
from addons.upstream.errors import ErrorLogger
from attest_web.errors import error_type
from attest_web.metrics import METHODS, Metrics

CLIENT_LEFT: Final = 499
"""The status in log and metrics of a request whose client closed the connection first, as nginx has it."""

NO_ROOM: Final = 503
"""The status of a request that is refused because a limit is reached, or because the proxy is draining."""


class Observer:
    """Reports every request when it is over."""

    def __init__(self, exchanges: Exchanges, metrics: Metrics, listeners: Sequence[Callable[[Summary], None]]) -> None:
        """Make the addon.

        Args:
            exchanges: The records of all requests.
            metrics: Count every request.
            listeners: Called with the summary of every request that has ended.
        """
        self._exchanges = exchanges
        self._metrics = metrics
        self._listeners = listeners

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Record the upstream's status, and observe its errors."""
        response = flow.response
        if response is None or response.raw_content is not None:  # a response of this proxy's own
            return
        exchange = self._exchanges.of(flow)
        exchange.upstream_status = response.status_code
        if response.status_code >= 400 and is_not_encoded(response):
            response.stream = ErrorLogger(exchange, response.stream)

    def response(self, flow: http.HTTPFlow) -> None:
        """Report an exchange that is over; a WebSocket has only begun."""
        if flow.response is not None and flow.response.status_code != 101:
            self._tell(flow, flow.response.status_code)

    def websocket_end(self, flow: http.HTTPFlow) -> None:
        """Report a WebSocket that is over."""
        self._tell(flow, 101)

    def error(self, flow: http.HTTPFlow) -> None:
        """Report an exchange that has failed."""
        exchange = self._exchanges.of(flow)
        status = exchange.layers_status
        left = exchange.left_by_client or not flow.client_conn.state & ConnectionState.CAN_READ
        if status is not None:
            failed_upstream = status >= 500
        else:
            failed_upstream = not left
            # Where a response had begun, that was its end; otherwise the layers set the status next.
            status = exchange.upstream_status or (CLIENT_LEFT if left else 502)
        if failed_upstream:
            self._metrics.upstream_errors.labels(_failure(flow, status)).inc()
        self._tell(flow, status)

    def count_unreadable(self, status: int) -> None:
        """Count a request whose head is malformed, for which no hook runs.

        Args:
            status: The status of its response.
        """
        self._metrics.requests.labels("other", "other", status).inc()
        self._metrics.refusals.labels(error_type(status)).inc()

    def _tell(self, flow: http.HTTPFlow, status: int) -> None:
        exchange = self._exchanges.of(flow)
        exchange.status = status
        if exchange.ended:
            return
        exchange.ended = True
        summary = _summary(flow, exchange, status)
        self._count(exchange, summary)
        for listener in self._listeners:
            listener(summary)

    def _count(self, exchange: Exchange, summary: Summary) -> None:
        metrics, route, status = self._metrics, summary.route, summary.status
        metrics.requests.labels(route, summary.method, status).inc()
        metrics.durations.labels(route).observe(summary.seconds)
        if exchange.times is not None and summary.first_token_seconds is not None:
            metrics.first_token.labels(route).observe(summary.first_token_seconds)
            metrics.between_tokens.labels(route).observe_many(exchange.times.counts, exchange.times.total)
        if exchange.usage is not None:
            for direction, count in zip(("input", "output"), exchange.usage, strict=True):
                if count:
                    metrics.tokens.labels(route, direction).inc(count)
        if exchange.state is not None:
            metrics.exchanges.labels(exchange.state, exchange.reason or "").inc()
        if exchange.upstream_status is not None:
            if exchange.upstream_status >= 500:
                metrics.upstream_errors.labels("status_5xx").inc()
        elif status == NO_ROOM and exchange.route.kind is not Kind.PROOF:
            metrics.refusals.labels("unavailable").inc()
        elif 400 <= status < CLIENT_LEFT and _is_refusal(exchange.route.kind, status):
            metrics.refusals.labels(error_type(status)).inc()


def _summary(flow: http.HTTPFlow, exchange: Exchange, status: int) -> Summary:
    began = flow.request.timestamp_start
    first = exchange.times.first if exchange.times is not None else None
    given = flow.request.headers.get("x-request-id", "")
    method = flow.request.data.method.decode("latin-1")
    return Summary(
        request_id=given if is_usable(given) else flow.id,
        method=method if method in METHODS else "other",
        status=status,
        seconds=max(0.0, time.time() - began),  # a clock can be set back
        first_token_seconds=max(0.0, first - began) if first is not None else None,
        exchange=exchange,
    )


def _is_refusal(kind: Kind, status: int) -> bool:
    # At the pages, an unknown id is no error.
    return status in (401, 429) or kind is not Kind.PROOF


def _failure(flow: http.HTTPFlow, status: int) -> str:
    if flow.server_conn.timestamp_tcp_setup is None:
        return "unreachable"
    return "timeout" if status == 504 else "broken"
