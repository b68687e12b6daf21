"""A request and its response when one side disconnects, or does not end its message; in memory."""

import hashlib
from unittest.mock import Mock

import pytest
from mitmproxy import http
from mitmproxy.connection import ConnectionState
from mitmproxy.proxy import events

from addons.bodies.signing_filter import SigningFilter
from addons.exchange.exchanges import Exchanges
from addons.layers import end_of_stream as stream_end
from addons.layers.http_layer import ApiHttpLayer
from addons.routing.routes import Router
from addons.upstream.keep_alive import KeepAliveLimit
from tests.addons.layers.dollar_reader import DollarReader
from tests.addons.wire import Wire, make_config, make_context, no_reading

REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class LayeredRequest:
    """A request that has been sent, and waits for its answer."""

    def __init__(self, *, behind: bool = False, size: int | None = None, request: bytes = REQUEST) -> None:
        self._size = size
        self.completed: list[str] = []
        self.errors: list[http.HTTPFlow] = []
        self.exchanges = Exchanges(Router().route_of)
        config = make_config(has_pending_writes=lambda _: behind, exchanges=self.exchanges)
        self.wire = Wire(ApiHttpLayer(make_context(), config, KeepAliveLimit(10), Mock(), no_reading()))
        self.wire.hooks = {"responseheaders": self._tap, "error": self.errors.append}
        self.wire.receive(self.wire.client, request)

    def _tap(self, flow: http.HTTPFlow) -> None:
        assert flow.response is not None
        flow.response.stream = SigningFilter(
            DollarReader(), lambda body: self.completed.append(body.digests[1]), self._size
        )

    def wake(self) -> None:
        self.wire.feed(events.Wakeup(self.wire.wakeups.pop()))


def test_request_whose_client_disconnects_while_connecting_is_not_sent_and_fails() -> None:
    sent = LayeredRequest()
    sent.wire.close(sent.wire.client)
    server = sent.wire.connect()
    assert sent.wire.sent[server] == b""
    assert server.state is ConnectionState.CLOSED
    assert len(sent.errors) == 1


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_end, "END_TIMEOUT", 0.0)


@pytest.mark.usefixtures("no_patience")
def test_stream_left_open_after_its_last_event_is_ended_and_signed() -> None:
    sent = LayeredRequest()
    server = sent.wire.connect()
    sent.wire.wakeups.clear()  # that for the beginning of the answer
    sent.wire.receive(server, HEAD + b"1\r\na\r\n")
    assert sent.wire.wakeups == []
    sent.wire.receive(server, b"1\r\n$\r\n")
    sent.wake()
    assert sent.wire.to_client.endswith(b"1\r\na\r\n1\r\n$\r\n0\r\n\r\n")
    assert server.state is ConnectionState.CLOSED
    assert sent.wire.client.state is ConnectionState.OPEN
    assert sent.errors == []
    assert sent.completed == [hashlib.sha256(b"a$").hexdigest()]
    sent.wire.receive(sent.wire.client, REQUEST)  # which goes on with its next request
    assert sent.wire.sent[sent.wire.connect()].startswith(b"POST ")


@pytest.mark.usefixtures("no_patience")
def test_stream_left_open_short_of_its_content_length_is_truncated_and_unsigned() -> None:
    sent = LayeredRequest(size=5)
    server = sent.wire.connect()
    sent.wire.wakeups.clear()
    sent.wire.receive(server, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\na$")
    sent.wake()
    assert sent.wire.to_client.endswith(b"\r\n\r\na")
    assert server.state is sent.wire.client.state is ConnectionState.CLOSED
    assert len(sent.errors) == 1
    assert sent.completed == []


@pytest.mark.usefixtures("no_patience")
def test_stream_that_ends_by_itself_is_not_ended_by_the_timer() -> None:
    sent = LayeredRequest()
    server = sent.wire.connect()
    sent.wire.wakeups.clear()
    sent.wire.receive(server, HEAD + b"1\r\n$\r\n")
    sent.wire.receive(server, b"0\r\n\r\n")
    sent.wake()
    assert sent.wire.to_client.endswith(b"1\r\n$\r\n0\r\n\r\n")
    assert sent.wire.client.state is ConnectionState.OPEN
    assert len(sent.completed) == 1


@pytest.mark.usefixtures("no_patience")
def test_stream_that_continues_after_its_last_event_is_not_ended_by_the_timer() -> None:
    sent = LayeredRequest()
    server = sent.wire.connect()
    sent.wire.wakeups.clear()
    sent.wire.receive(server, HEAD + b"1\r\n$\r\n")
    sent.wire.receive(server, b"1\r\nb\r\n")
    sent.wake()
    assert server.state is ConnectionState.OPEN
    assert sent.completed == []
    sent.wire.receive(server, b"1\r\nc\r\n0\r\n\r\n")
    assert sent.wire.to_client.endswith(b"1\r\nc\r\n1\r\n$\r\n0\r\n\r\n")
    assert sent.completed == [hashlib.sha256(b"$bc").hexdigest()]


@pytest.mark.usefixtures("no_patience")
def test_stream_whose_end_waits_for_a_hook_is_not_ended_twice() -> None:
    sent = LayeredRequest()
    server = sent.wire.connect()
    sent.wire.wakeups.clear()
    sent.wire.receive(server, HEAD + b"1\r\n$\r\n")
    sent.wire.hooks["response"] = lambda _: sent.wire.feed_next(events.Wakeup(sent.wire.wakeups.pop()))
    sent.wire.receive(server, b"0\r\n\r\n")
    assert sent.wire.to_client.endswith(b"1\r\n$\r\n0\r\n\r\n")
    assert server.state is sent.wire.client.state is ConnectionState.OPEN
    assert len(sent.completed) == 1


@pytest.mark.usefixtures("no_patience")
def test_stream_of_a_slow_client_gets_more_time_before_it_is_ended() -> None:
    sent = LayeredRequest(behind=True)
    server = sent.wire.connect()
    sent.wire.wakeups.clear()
    sent.wire.receive(server, HEAD + b"1\r\n$\r\n")
    for _ in range(3):
        sent.wake()
    sent.wire.receive(server, b"0\r\n\r\n")
    assert sent.wire.to_client.endswith(b"1\r\n$\r\n0\r\n\r\n")
    assert len(sent.completed) == 1


def test_http_1_0_client_gets_no_chunks_and_the_upstream_gets_http_1_1() -> None:
    sent = LayeredRequest(request=REQUEST.replace(b"HTTP/1.1", b"HTTP/1.0"))
    server = sent.wire.connect()
    assert sent.wire.sent[server].startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    sent.wire.receive(server, HEAD + b"2\r\nab\r\n2\r\nc$\r\n0\r\n\r\n")
    head, _, body = sent.wire.to_client.partition(b"\r\n\r\n")
    assert body == b"abc$"
    assert b"transfer-encoding" not in head.lower()
    assert b"connection: close" in head.lower()
    assert sent.wire.client.state is ConnectionState.CLOSED
    assert server.state is ConnectionState.OPEN
    assert sent.completed == [hashlib.sha256(b"abc$").hexdigest()]


def test_a_response_that_a_connection_makes_by_itself_is_noted_in_the_record_of_its_request() -> None:
    sent = LayeredRequest()
    sent.wire.close(sent.wire.connect())
    assert sent.wire.to_client.startswith(b"HTTP/1.1 502 ")
    assert sent.exchanges.of(sent.errors[0]).layers_status == 502


def test_a_response_to_a_request_that_cannot_be_read_is_noted_in_no_record() -> None:
    sent = LayeredRequest(request=b"nonsense\r\n\r\n")
    assert sent.wire.to_client.startswith(b"HTTP/1.1 400 ")
    assert sent.exchanges.flows() == []
