"""Responses that come before the end of their request; in memory."""

import pytest
from mitmproxy import http
from mitmproxy.connection import ConnectionState

from addons.exchange.attempt import AttemptOutcome
from addons.messages.responses import reject
from tests.addons.layers.stream.client import CHUNKED, OK, POST, Client


def refuse(flow: http.HTTPFlow) -> None:
    reject(flow, 401, "No.")


def test_early_response_to_a_request_refused_on_its_headers_is_sent_before_its_body() -> None:
    client = Client()
    client.at("requestheaders", refuse)
    client.send(POST)
    assert client.wire.to_client.startswith(b"HTTP/1.1 401 ")
    assert b"connection: close" in client.wire.to_client.lower()
    assert client.wire.opening == []
    assert client.hooks == ["requestheaders", "response"]
    assert not client.flows[0].live
    said = client.wire.to_client
    client.send(b"body")
    assert client.wire.to_client == said, "the body falls"
    assert client.flows[0].request.raw_content is None


def test_early_response_to_a_request_without_a_body_keeps_the_connection_open() -> None:
    client = Client()
    client.at("requestheaders", refuse)
    for count in (1, 2):
        client.send(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.wire.to_client.count(b"HTTP/1.1 401 ") == count
    assert client.wire.client.state is ConnectionState.OPEN


@pytest.mark.parametrize(("size", "refused"), [(10, False), (11, True)])
def test_early_response_413_is_sent_at_the_first_byte_over_the_limit(size: int, refused: bool) -> None:
    client = Client(limit=10)
    client.send(b"POST /v1/files HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    server = client.wire.connect()
    for _ in range(size):
        client.send(b"1\r\nx\r\n")
    assert client.wire.to_client.startswith(b"HTTP/1.1 413 ") is refused
    assert (server.state is ConnectionState.CLOSED) is refused
    assert client.wire.sent[server].count(b"1\r\nx\r\n") == 10
    [attempt] = client.exchanges.of(client.flows[0]).attempts
    assert attempt.outcome is (AttemptOutcome.ABANDONED if refused else None)


def test_oversized_body_after_the_response_has_begun_truncates_the_response() -> None:
    client = Client(limit=10)
    client.at("responseheaders", lambda flow: setattr(flow.response, "stream", True))
    client.send(b"POST /v1/files HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    server = client.wire.connect()
    client.wire.receive(server, CHUNKED + b"1\r\na\r\n")
    client.send(b"b\r\n" + b"x" * 11 + b"\r\n")
    assert client.wire.to_client.endswith(b"1\r\na\r\n"), "it has no end"
    assert b" 413 " not in client.wire.to_client
    assert server.state is client.wire.client.state is ConnectionState.CLOSED
    assert "error" in client.hooks


def test_response_ending_before_its_request_is_sent_at_once_and_the_upstream_closed() -> None:
    client = Client()
    client.at("responseheaders", lambda flow: setattr(flow.response, "stream", True))
    client.send(POST + b"bo")
    server = client.wire.connect()
    client.wire.receive(server, OK)
    assert client.wire.to_client.endswith(b"\r\n\r\nok")
    assert b"connection: close" in client.wire.to_client.lower()
    assert server.state is ConnectionState.CLOSED
    assert not client.flows[0].live
    [attempt] = client.exchanges.of(client.flows[0]).attempts
    assert attempt.outcome is AttemptOutcome.COMPLETED
    client.send(b"dy")
    assert client.wire.sent[server].endswith(b"bo")


def test_response_after_a_complete_request_keeps_both_connections_open() -> None:
    client = Client()
    client.at("responseheaders", lambda flow: setattr(flow.response, "stream", True))
    client.send(POST + b"body")
    server = client.wire.connect()
    client.wire.receive(server, OK)
    assert b"connection: close" not in client.wire.to_client.lower()
    assert server.state is client.wire.client.state is ConnectionState.OPEN
