"""Which connection to the upstream a request takes, and what becomes of it. In memory, with HTTP/2 clients, which ask
for several at once."""

import gc
from collections.abc import Callable
from unittest.mock import Mock

import h2.config
import h2.connection
import h2.events
import pytest
from mitmproxy import http
from mitmproxy.connection import Connection, ConnectionState
from mitmproxy.proxy.context import Context

from addons.layers.connections.upstream_connections import UpstreamConnections
from addons.layers.http_layer import ApiHttpLayer
from addons.upstream.keep_alive import KeepAliveLimit
from tests.addons.clock import Clock
from tests.addons.wire import UPSTREAM, Wire, make_config, make_context, no_reading

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
AUTHORITY = "upstream:9000"


class Http2Client:
    """A client that speaks HTTP/2 with the layer.

    Attributes:
        done: The streams whose answers have come.
        failed: The streams that were reset.
    """

    def __init__(
        self,
        limit: int = 100,
        idle: KeepAliveLimit | None = None,
        layer: Callable[[Context, KeepAliveLimit], UpstreamConnections] = UpstreamConnections,
    ) -> None:
        self.idle = KeepAliveLimit(limit) if idle is None else idle
        self.layer = layer(make_context(alpn=b"h2"), self.idle)
        self.wire = Wire(self.layer)
        self.done: list[int] = []
        self.statuses: dict[int, bytes] = {}
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self._h2.initiate_connection()
        self._flush()

    def _flush(self) -> None:
        self.wire.receive(self.wire.client, self._h2.data_to_send())
        answer, self.wire.to_client = self.wire.to_client, b""
        for event in self._h2.receive_data(answer):
            if isinstance(event, h2.events.StreamEnded):
                self.done.append(event.stream_id)
            elif isinstance(event, h2.events.ResponseReceived):
                self.statuses[event.stream_id] = dict(event.headers)[b":status"]

    def ask(self, path: str = "/") -> int:
        stream: int = self._h2.get_next_available_stream_id()
        pseudo = [(":method", "GET"), (":scheme", "http"), (":authority", AUTHORITY), (":path", path)]
        self._h2.send_headers(stream, pseudo, end_stream=True)
        self._flush()
        return stream

    def reset(self, stream: int) -> None:
        self._h2.reset_stream(stream)
        self._flush()

    def answer(self, number: int, data: bytes = ANSWER) -> None:
        self.wire.receive(self.wire.connections[number], data)
        self._flush()


def requests_on(client: Http2Client, number: int) -> int:
    return client.wire.sent[client.wire.connections[number]].count(b"GET /")


def test_concurrent_streams_open_one_connection_each_and_later_streams_reuse_them() -> None:
    client = Http2Client()
    first, second = client.ask(), client.ask()
    client.wire.connect()
    client.wire.connect()
    client.answer(1)
    client.answer(0)
    assert client.done == [second, first]
    assert len(client.idle) == 2
    third, fourth = client.ask(), client.ask()
    assert client.wire.opening == []
    assert len(client.idle) == 0
    client.answer(0)
    client.answer(1)
    assert client.done == [second, first, third, fourth]
    assert [requests_on(client, number) for number in (0, 1)] == [2, 2]
    assert client.wire.sent[client.wire.connections[0]].startswith(b"GET / HTTP/1.1\r\nHost: upstream:9000\r\n")


@pytest.mark.parametrize("limit", [0, 1])
def test_idle_connections_over_the_limit_are_closed(limit: int) -> None:
    client = Http2Client(limit)
    for _ in range(2):
        client.ask()
        client.wire.connect()
    for number in range(2):
        client.answer(number)
    states = [connection.state for connection in client.wire.connections]
    assert states.count(ConnectionState.OPEN) == limit
    assert len(client.done) == 2


def test_waiting_request_takes_the_first_connection_that_becomes_idle() -> None:
    """mitmproxy opens five connections to an address at most; the sixth waits until one of them is closed."""
    client = Http2Client()
    client.ask()
    client.wire.connect()
    late = client.ask()
    assert len(client.wire.opening) == 1
    client.answer(0)
    client.answer(0)
    assert client.done[-1] == late
    another, last = client.ask(), client.ask()
    assert len(client.wire.opening) == 1, "the one that is still being made is for the last request"
    client.wire.connect()
    client.answer(1)
    client.answer(0)
    assert client.done[-2:] == [last, another]


def test_connection_no_longer_needed_is_kept_or_closed_by_the_idle_limit() -> None:
    for limit in (0, 1):
        client = Http2Client(limit)
        client.ask()
        client.wire.connect()
        client.ask()
        client.answer(0, ANSWER)
        spare_was_needed = bool(limit == 0)  # without idle connections, the second request waits for its own
        client.wire.connect()
        assert requests_on(client, 1) == int(spare_was_needed)
        assert len(client.idle) == (0 if spare_was_needed else 1)


def test_stream_reset_while_connecting_closes_the_connection_and_leaves_no_state() -> None:
    client = Http2Client()
    stream = client.ask()
    client.reset(stream)
    connection = client.wire.connect()
    assert connection.state is ConnectionState.CLOSED
    other = client.ask()
    client.wire.connect()
    client.answer(1)
    assert client.done == [other]
    assert client.layer.streams == {}


def test_failed_connection_is_retried_for_the_next_request() -> None:
    client = Http2Client()
    refused = client.ask()
    client.wire.connect("refused")
    client._flush()
    served = client.ask()
    client.wire.connect()
    client.answer(0)
    assert client.statuses == {refused: b"502", served: b"200"}


def test_closed_connections_leave_no_state() -> None:
    client = Http2Client()
    for number in range(50):
        client.ask()
        client.wire.connect()
        client.answer(number, ANSWER)
        client.wire.close(client.wire.connections[number])
    assert len(client.done) == 50
    assert len(client.layer.connections) <= 3
    assert len(client.idle) == 0
    assert client.layer.waiting_for_establishment == {}
    assert client.layer.command_sources == {}


def test_connections_to_different_upstreams_are_kept_apart() -> None:
    client = Http2Client()

    def elsewhere(flow: http.HTTPFlow) -> None:
        if flow.request.path == "/elsewhere":
            flow.request.host, flow.request.port = "elsewhere", 1

    client.wire.hooks["requestheaders"] = elsewhere
    for path in ("/", "/elsewhere", "/", "/elsewhere"):
        client.ask(path)
        if client.wire.opening:
            client.wire.connect()
        client.answer(1 if path == "/elsewhere" else 0)
    assert [connection.address for connection in client.wire.sent] == [UPSTREAM, ("elsewhere", 1)]
    assert [requests_on(client, number) for number in (0, 1)] == [2, 2]
    assert len(client.done) == 4


def test_tls_upstream_is_offered_http_1_1_only() -> None:
    client = Http2Client()

    def elsewhere(flow: http.HTTPFlow) -> None:
        flow.request.scheme = "https"

    client.wire.hooks["requestheaders"] = elsewhere
    client.ask()
    server = client.wire.opening[0].connection
    assert (server.tls, server.sni, server.alpn_offers) == (True, "upstream", (b"http/1.1",))


def test_unsolicited_data_closes_an_idle_connection_and_is_not_logged() -> None:
    client = Http2Client()
    client.ask()
    client.wire.connect()
    client.answer(0)
    client.answer(0, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nXMARK")
    assert client.wire.connections[0].state is ConnectionState.CLOSED
    assert len(client.idle) == 0
    client.ask()
    client.wire.connect()
    client.answer(1)
    assert len(client.done) == 2
    assert "XMARK" not in str(client.wire.logged)


def test_idle_connection_of_a_garbage_collected_client_no_longer_counts() -> None:
    client = Http2Client(1)
    idle = client.idle
    client.ask()
    client.wire.connect()
    client.answer(0)
    assert len(idle) == 1
    del client
    gc.collect()
    assert len(idle) == 0


def test_connection_idle_past_its_timeout_is_not_reused() -> None:
    clock = Clock()
    client = Http2Client(idle=KeepAliveLimit(10, timeout=4, clock=clock))
    client.ask()
    client.wire.connect()
    client.answer(0)
    clock.now += 3.9
    client.ask()
    assert client.wire.opening == []
    client.answer(0)
    clock.now += 3.9
    assert client.idle.overdue() == []
    clock.now += 0.1
    assert client.idle.overdue() == [client.wire.connections[0]]
    client.ask()
    client.wire.connect()
    assert requests_on(client, 1) == 1


def test_connection_closed_by_the_upstream_is_not_reused() -> None:
    """Closed for the event loop, while the layers have had no event of it."""
    ended: set[Connection] = set()
    client = Http2Client(idle=KeepAliveLimit(10, has_ended=ended.__contains__))
    client.ask()
    client.wire.connect()
    client.answer(0)
    ended.add(client.wire.connections[0])
    client.ask()
    client.wire.connect()
    assert [requests_on(client, number) for number in (0, 1)] == [1, 1]


def test_retry_takes_a_new_connection_and_not_an_idle_one() -> None:
    """Others that are idle may have been closed at the same moment."""
    config = make_config()
    client = Http2Client(layer=lambda context, idle: ApiHttpLayer(context, config, idle, Mock(), no_reading()))
    client.ask(), client.ask()
    client.wire.connect()
    client.wire.connect()
    client.answer(0)
    client.answer(1)
    lost = client.ask()
    client.wire.close(client.wire.connections[0])
    assert [requests_on(client, number) for number in (0, 1)] == [2, 1]
    client.wire.connect()
    client.answer(2)
    assert client.done[-1] == lost
    assert requests_on(client, 2) == 1
