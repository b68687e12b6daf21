"""The span of a request, with an exporter in memory. tests/e2e/test_tracing.py uses a collector."""

import sys

import pytest
from mitmproxy import http
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from addons.exchange.exchanges import Exchanges
from addons.exchange.summary import Summary
from addons.exchange.usage import Usage
from addons.observability.tracing import Tracing, TracingError, open_tracing
from tests.addons.conftest import MakeFlow

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Traced:
    """Traces requests, and keeps their spans."""

    def __init__(self, exchanges: Exchanges) -> None:
        self.exporter = InMemorySpanExporter()
        self.exchanges = exchanges
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracing = Tracing(provider, exchanges)

    def pass_through(self, flow: http.HTTPFlow, status: int = 200) -> ReadableSpan:
        self.tracing.requestheaders(flow)
        self.tracing.tell(Summary("req-1", "POST", status, 1.0, 0.5, self.exchanges.of(flow)))
        return self.exporter.get_finished_spans()[-1]


@pytest.fixture
def traced(exchanges: Exchanges) -> Traced:
    return Traced(exchanges)


def test_a_span_is_below_the_clients_and_its_own_context_goes_upstream(traced: Traced, make_flow: MakeFlow) -> None:
    flow = make_flow(traceparent=f"00-{TRACE}-{PARENT}-01", tracestate="vendor=x")
    span = traced.pass_through(flow)
    assert span.context is not None
    assert span.parent is not None
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, PARENT)
    assert flow.request.headers["traceparent"] == f"00-{TRACE}-{span.context.span_id:016x}-01"
    assert flow.request.headers["tracestate"] == "vendor=x"
    assert span.start_time == int(flow.request.timestamp_start * 10**9)


def test_without_a_context_of_the_clients_a_trace_begins(traced: Traced, make_flow: MakeFlow) -> None:
    flow = make_flow()
    span = traced.pass_through(flow)
    assert span.parent is None
    assert span.context is not None
    assert f"{span.context.trace_id:032x}" in flow.request.headers["traceparent"]


def test_a_span_tells_what_the_summary_does_and_nothing_that_was_said(traced: Traced, make_flow: MakeFlow) -> None:
    flow = make_flow(b"a secret prompt", authorization="Bearer s3cret")
    exchange = traced.exchanges.of(flow)
    exchange.state, exchange.receipt_id, exchange.usage = "signed", "rcpt-1", Usage(3, 4)
    span = traced.pass_through(flow)
    assert span.name == "/v1/chat/completions"
    assert dict(span.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 4,
        "tee.request_id": "req-1",
        "tee.receipt_id": "rcpt-1",
        "tee.signature": "signed",
        "tee.time_to_first_token_seconds": 0.5,
    }
    assert "secret" not in span.to_json()
    assert "s3cret" not in span.to_json()


@pytest.mark.parametrize(
    ("status", "code"), [(200, StatusCode.UNSET), (404, StatusCode.UNSET), (502, StatusCode.ERROR)]
)
def test_a_span_of_a_server_error_is_one_of_an_error(
    traced: Traced, make_flow: MakeFlow, status: int, code: StatusCode
) -> None:
    assert traced.pass_through(make_flow(), status).status.status_code is code


def test_a_request_without_a_span_is_told_of_without_one(traced: Traced, make_flow: MakeFlow) -> None:
    traced.tracing.tell(Summary("req-1", "POST", 400, 1.0, None, traced.exchanges.of(make_flow())))
    assert traced.exporter.get_finished_spans() == ()


def test_a_span_ends_once(traced: Traced, make_flow: MakeFlow) -> None:
    flow = make_flow()
    traced.pass_through(flow)
    traced.tracing.tell(Summary("req-1", "POST", 200, 1.0, None, traced.exchanges.of(flow)))
    assert len(traced.exporter.get_finished_spans()) == 1


def test_without_the_extra_it_is_said_how_to_install_it(exchanges: Exchanges, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(TracingError, match=r"pip install 'tee-signer\[otel\]'"):
        open_tracing(exchanges, "1.0")


@pytest.mark.parametrize(("name", "expected"), [(None, "tee-signer"), ("chat", "chat")])
def test_the_service_has_a_name_unless_the_environment_gives_one(
    exchanges: Exchanges, monkeypatch: pytest.MonkeyPatch, name: str | None, expected: str
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    if name is not None:
        monkeypatch.setenv("OTEL_SERVICE_NAME", name)
    tracing = open_tracing(exchanges, "1.0")
    attributes = tracing._provider.resource.attributes
    assert (attributes["service.name"], attributes["service.version"]) == (expected, "1.0")
    tracing.done()
