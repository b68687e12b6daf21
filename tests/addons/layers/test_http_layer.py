"""A request and its answer when one side goes, or does not come to an end; in memory."""

import hashlib
from collections.abc import Sequence
from unittest.mock import Mock

import pytest
from mitmproxy import http
from mitmproxy.connection import ConnectionState
from mitmproxy.proxy import events

from addons.bodies.signing_filter import ResponseTap
from addons.layers import end_of_stream as stream_end
from addons.layers.http_layer import ApiHttpLayer
from addons.upstream.keep_alive import KeepAliveLimit
from tests.addons.wire import Wire, make_config, make_context, no_reading

REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Reader:
    """Passes everything but the letter that ends the stream, which it holds back."""

    id: str | None = None
    finished = False
    usage = None

    def feed(self, piece: bytes) -> bytes:
        self.finished = piece.endswith(b"$")
        return piece.removesuffix(b"$")

    def passing(self, pieces: Sequence[bytes]) -> int:
        return 0

    def end(self) -> bytes:
        return b"$"


class Exchange:
    """A request that has been sent, and waits for its answer."""

    def __init__(self, *, behind: bool = False, size: int | None = None, request: bytes = REQUEST) -> None:
        self._size = size
        self.completed: list[str] = []
        self.errors: list[http.HTTPFlow] = []
        config = make_config(has_pending_writes=lambda _: behind)
        self.wire = Wire(ApiHttpLayer(make_context(), config, KeepAliveLimit(10), Mock(), no_reading()))
        self.wire.hooks = {"responseheaders": self._tap, "error": self.errors.append}
        self.wire.receive(self.wire.client, request)

    def _tap(self, flow: http.HTTPFlow) -> None:
        assert flow.response is not None
        flow.response.stream = ResponseTap(Reader(), lambda sha256, _: self.completed.append(sha256), self._size)

    def wake(self) -> None:
        self.wire.feed(events.Wakeup(self.wire.wakeups.pop()))


def test_nothing_is_asked_for_a_client_that_went_while_it_was_connected_to_the_upstream() -> None:
    exchange = Exchange()
    exchange.wire.close(exchange.wire.client)
    server = exchange.wire.connect()
    assert exchange.wire.sent[server] == b""
    assert server.state is ConnectionState.CLOSED
    assert len(exchange.errors) == 1


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_end, "END_TIMEOUT", 0.0)


@pytest.mark.usefixtures("no_patience")
def test_a_stream_that_is_left_open_after_its_last_event_is_ended_and_signed() -> None:
    exchange = Exchange()
    server = exchange.wire.connect()
    exchange.wire.wakeups.clear()  # that for the beginning of the answer
    exchange.wire.receive(server, HEAD + b"1\r\na\r\n")
    assert exchange.wire.wakeups == []
    exchange.wire.receive(server, b"1\r\n$\r\n")
    exchange.wake()
    assert exchange.wire.to_client.endswith(b"1\r\na\r\n1\r\n$\r\n0\r\n\r\n")
    assert server.state is ConnectionState.CLOSED
    assert exchange.wire.client.state is ConnectionState.OPEN
    assert exchange.errors == []
    assert exchange.completed == [hashlib.sha256(b"a$").hexdigest()]
    exchange.wire.receive(exchange.wire.client, REQUEST)  # which goes on with its next request
    assert exchange.wire.sent[exchange.wire.connect()].startswith(b"POST ")


@pytest.mark.usefixtures("no_patience")
def test_a_stream_left_open_that_has_promised_more_bytes_is_cut_short() -> None:
    exchange = Exchange(size=5)
    server = exchange.wire.connect()
    exchange.wire.wakeups.clear()
    exchange.wire.receive(server, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\na$")
    exchange.wake()
    assert exchange.wire.to_client.endswith(b"\r\n\r\na")
    assert server.state is exchange.wire.client.state is ConnectionState.CLOSED
    assert len(exchange.errors) == 1
    assert exchange.completed == []


@pytest.mark.usefixtures("no_patience")
def test_a_stream_that_ends_is_left_alone() -> None:
    exchange = Exchange()
    server = exchange.wire.connect()
    exchange.wire.wakeups.clear()
    exchange.wire.receive(server, HEAD + b"1\r\n$\r\n")
    exchange.wire.receive(server, b"0\r\n\r\n")
    exchange.wake()
    assert exchange.wire.to_client.endswith(b"1\r\n$\r\n0\r\n\r\n")
    assert exchange.wire.client.state is ConnectionState.OPEN
    assert len(exchange.completed) == 1


@pytest.mark.usefixtures("no_patience")
def test_a_stream_that_goes_on_behind_its_last_event_is_not_ended() -> None:
    exchange = Exchange()
    server = exchange.wire.connect()
    exchange.wire.wakeups.clear()
    exchange.wire.receive(server, HEAD + b"1\r\n$\r\n")
    exchange.wire.receive(server, b"1\r\nb\r\n")
    exchange.wake()
    assert server.state is ConnectionState.OPEN
    assert exchange.completed == []
    exchange.wire.receive(server, b"1\r\nc\r\n0\r\n\r\n")
    assert exchange.wire.to_client.endswith(b"1\r\nc\r\n1\r\n$\r\n0\r\n\r\n")
    assert exchange.completed == [hashlib.sha256(b"$bc").hexdigest()]


@pytest.mark.usefixtures("no_patience")
def test_a_stream_whose_end_waits_for_a_hook_is_not_ended_a_second_time() -> None:
    exchange = Exchange()
    server = exchange.wire.connect()
    exchange.wire.wakeups.clear()
    exchange.wire.receive(server, HEAD + b"1\r\n$\r\n")
    exchange.wire.hooks["response"] = lambda _: exchange.wire.feed_next(events.Wakeup(exchange.wire.wakeups.pop()))
    exchange.wire.receive(server, b"0\r\n\r\n")
    assert exchange.wire.to_client.endswith(b"1\r\n$\r\n0\r\n\r\n")
    assert server.state is exchange.wire.client.state is ConnectionState.OPEN
    assert len(exchange.completed) == 1


@pytest.mark.usefixtures("no_patience")
def test_a_stream_whose_end_nobody_reads_as_the_client_is_slow_gets_more_time() -> None:
    exchange = Exchange(behind=True)
    server = exchange.wire.connect()
    exchange.wire.wakeups.clear()
    exchange.wire.receive(server, HEAD + b"1\r\n$\r\n")
    for _ in range(3):
        exchange.wake()
    exchange.wire.receive(server, b"0\r\n\r\n")
    assert exchange.wire.to_client.endswith(b"1\r\n$\r\n0\r\n\r\n")
    assert len(exchange.completed) == 1


def test_a_client_of_http_1_0_gets_no_chunks_and_the_upstream_gets_http_1_1() -> None:
    exchange = Exchange(request=REQUEST.replace(b"HTTP/1.1", b"HTTP/1.0"))
    server = exchange.wire.connect()
    assert exchange.wire.sent[server].startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    exchange.wire.receive(server, HEAD + b"2\r\nab\r\n2\r\nc$\r\n0\r\n\r\n")
    head, _, body = exchange.wire.to_client.partition(b"\r\n\r\n")
    assert body == b"abc$"
    assert b"transfer-encoding" not in head.lower()
    assert b"connection: close" in head.lower()
    assert exchange.wire.client.state is ConnectionState.CLOSED
    assert server.state is ConnectionState.OPEN
    assert exchange.completed == [hashlib.sha256(b"abc$").hexdigest()]
