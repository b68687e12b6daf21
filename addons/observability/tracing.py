"""OpenTelemetry: a span for each request, exported as OTLP over HTTP; the W3C trace context is sent to the upstream.

It is loaded only with `OTEL_EXPORTER_OTLP_ENDPOINT`. The SDK reads the other variables of its specification itself:
headers, sampling, the service's name. Attributes follow OpenTelemetry's semantic conventions for HTTP servers and
generative AI; none of them contains a part of a prompt or a response.
"""

import logging
import threading
from typing import TYPE_CHECKING, Final

from mitmproxy import http

from addons.exchange.exchanges import Exchanges
from addons.exchange.summary import Summary

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

logger = logging.getLogger(__name__)

LAST_EXPORT: Final = 5.0
"""Seconds that the end of the process waits for the last spans to be exported."""

_NANOSECONDS: Final = 10**9


class TracingError(ValueError):
    """Traces are configured, and cannot be made."""


class Tracing:
    """Makes a span for every request."""

    def __init__(self, provider: "TracerProvider", exchanges: Exchanges) -> None:
        """Make the addon.

        Args:
            provider: Makes the spans, and exports them.
            exchanges: The records, which have the routes and keep the spans.
        """
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415  # extra

        self._provider = provider
        self._exchanges = exchanges
        self._tracer = provider.get_tracer("tee-signer")
        self._w3c = TraceContextTextMapPropagator()

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Start a span, as a child of the client's if it sent one, and pass the context to the upstream."""
        from opentelemetry.trace import SpanKind, set_span_in_context  # noqa: PLC0415  # an extra

        exchange, headers = self._exchanges.of(flow), flow.request.headers
        names = ("traceparent", "tracestate")
        context = self._w3c.extract({name: headers[name] for name in names if name in headers})
        span = exchange.span = self._tracer.start_span(
            exchange.route.name,
            context,
            SpanKind.SERVER,
            start_time=int(flow.request.timestamp_start * _NANOSECONDS),
        )
        told: dict[str, str] = {}
        self._w3c.inject(told, set_span_in_context(span))
        headers.update(told)

    def tell(self, summary: Summary) -> None:
        """End the span of a request that has ended."""
        from opentelemetry.trace import StatusCode  # noqa: PLC0415  # an extra

        span, summary.exchange.span = summary.exchange.span, None
        if span is None:
            return
        fields = summary.fields()
        names = {
            "http.request.method": "method",
            "http.route": "route",
            "http.response.status_code": "status",
            "gen_ai.usage.input_tokens": "input_tokens",
            "gen_ai.usage.output_tokens": "output_tokens",
            "tee.request_id": "request_id",
            "tee.receipt_id": "receipt_id",
            "tee.signature": "signature",
            "tee.reason": "reason",
            "tee.time_to_first_token_seconds": "time_to_first_token_seconds",
        }
        span.set_attributes({key: fields[name] for key, name in names.items() if name in fields})
        if summary.status >= 500:
            span.set_status(StatusCode.ERROR)
        span.end()

    def done(self) -> None:
        """Export the remaining spans, within a few seconds."""
        ending = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        ending.start()
        ending.join(LAST_EXPORT)


def open_tracing(exchanges: Exchanges, release: str) -> Tracing:
    """Make the addon, configured by the environment.

    Args:
        exchanges: The records, which have the routes and keep the spans.
        release: This proxy's release.

    Raises:
        TracingError: The extra is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415  # an extra
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError:
        raise TracingError(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, and OpenTelemetry is not installed: pip install 'tee-signer[otel]'"
        ) from None
    resource = Resource.create({"service.version": release})
    if resource.attributes.get("service.name", "").startswith("unknown_service"):  # type: ignore[union-attr]
        resource = resource.merge(Resource({"service.name": "tee-signer"}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))  # its queue is bounded, and drops the oldest
    return Tracing(provider, exchanges)
