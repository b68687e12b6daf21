"""Traces, as a small collector of OTLP over HTTP gets them from real proxies."""

import gzip
import http.server
import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.e2e.support.processes import PROGRAMS, TOKEN, running_proxy, start_proxy
from tests.e2e.support.raw_client import RawClient, chat_body, chat_request
from tests.e2e.support.scripted_upstream import Peer, ScriptedUpstream, json_response
from tests.support.limits import limit

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
ANSWER = b'{"id":"chatcmpl-1","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}'
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "50"}
"""Milliseconds until spans are exported."""


class Collector:
    """Takes spans."""

    def __init__(self) -> None:
        self.spans: queue.Queue[tuple[dict[str, Any], Any]] = queue.Queue()
        self.bodies: list[bytes] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                outer.take(body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def take(self, body: bytes) -> None:
        self.bodies.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = {one.key: one.value.string_value for one in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.put((about, span))

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    running = Collector()
    yield running
    running.close()


def attributes(span: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


@pytest.mark.parametrize("program", PROGRAMS)
def test_request_span_is_a_child_of_the_clients_and_parent_of_the_upstreams(collector: Collector, program: str) -> None:
    contexts: list[str] = []

    def answer(peer: Peer) -> None:
        while (received := peer.read_request()) is not None:
            contexts.append(received.header("traceparent") or "")
            assert received.header("tracestate") == "vendor=x"
            peer.send(json_response(ANSWER))

    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, **SOON}
    with ScriptedUpstream(answer) as upstream, running_proxy(upstream.url, program=program, **settings) as proxy:
        with RawClient(proxy.port) as client:
            context = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=x"}
            client.send(chat_request(chat_body("a secret prompt"), **context))
            receipt = client.read_response()[1]["x-receipt-id"]
        about, span = collector.spans.get(timeout=limit(20))
    assert about["service.name"] == "tee-signer"
    assert span.name == "/v1/chat/completions"
    assert span.trace_id.hex() == TRACE
    assert span.parent_span_id.hex() == PARENT
    assert contexts == [f"00-{TRACE}-{span.span_id.hex()}-01"]
    assert span.end_time_unix_nano > span.start_time_unix_nano
    told = attributes(span)
    assert told["http.request.method"] == "POST"
    assert told["http.route"] == "/v1/chat/completions"
    assert told["http.response.status_code"] == 200
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (3, 4)
    assert (told["tee.receipt_id"], told["tee.signature"]) == (receipt, "signed")
    assert not any(b"secret prompt" in body or TOKEN.encode() in body for body in collector.bodies)


def test_the_last_spans_are_exported_when_the_proxy_stops(collector: Collector, fake_vllm: str) -> None:
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "60000"}
    with running_proxy(fake_vllm, **settings) as proxy:
        with RawClient(proxy.port) as client:
            client.send(chat_request(chat_body(), token="wrong"))
            assert client.read_response()[0] == 401
    _, span = collector.spans.get(timeout=limit(20))
    assert attributes(span)["http.response.status_code"] == 401


def test_unreachable_collector_does_not_affect_requests(fake_vllm: str, free_ports: list[int]) -> None:
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_ports[0]}", **SOON}
    with running_proxy(fake_vllm, **settings) as proxy:
        with RawClient(proxy.port) as client:
            for _ in range(3):
                client.send(chat_request(chat_body()))
                assert client.read_response()[0] == 200


def test_invalid_collector_address_fails_the_start(fake_vllm: str) -> None:
    process = start_proxy(fake_vllm, OTEL_EXPORTER_OTLP_ENDPOINT="collector:4317")
    assert process.wait(20) == 1
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in process.output
