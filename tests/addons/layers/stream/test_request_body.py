"""Request bodies that wait: for their end, for an upstream connection, or for a second attempt; in memory."""

from collections.abc import Callable
from unittest.mock import Mock

import pytest
from mitmproxy import http
from mitmproxy.connection import ConnectionState

from addons.access.body_budget import BodyBudget
from addons.bodies.pipeline import BodyPipeline
from addons.bodies.request_body import MAX_BUFFERED
from addons.bodies.transform import Transform
from addons.layers.http_layer import ApiHttpLayer
from addons.upstream.keep_alive import KeepAliveLimit
from tests.addons.clock import Clock
from tests.addons.wire import Wire, make_config, make_context, no_reading

LIMIT = 10 * MAX_BUFFERED
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
PIECE = b"x" * 65536
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Work:
    """A transform that notes what it is given, and may change it.

    Attributes:
        taken: The pieces, and `b""` for the end.
    """

    changes_length = True

    def __init__(self, change: Callable[[bytes], bytes], end: bytes = b"") -> None:
        self.taken: list[bytes] = []
        self._change = change
        self._end = end

    def feed(self, piece: bytes) -> bytes:
        self.taken.append(piece)
        return self._change(piece)

    def end(self) -> bytes:
        self.taken.append(b"")
        return self._end


class Clients:
    """Clients of one proxy, whose requests' bodies share one budget."""

    def __init__(self, budget: int = 100 * MAX_BUFFERED) -> None:
        self.clock = Clock()
        self.budget = BodyBudget(budget, self.clock)
        self.seen: list[http.HTTPFlow] = []
        self.holds = True
        self.transforms: list[Transform] = []

    def connect(self) -> Wire:
        """Connect one more client."""
        config = make_config(LIMIT, budget=self.budget)
        wire = Wire(ApiHttpLayer(make_context(), config, KeepAliveLimit(10), Mock(), no_reading()))
        wire.hooks = {"requestheaders": self._stream, "request": self.seen.append}
        return wire

    def _stream(self, flow: http.HTTPFlow) -> None:
        flow.request.stream = BodyPipeline(self.transforms, hold_limit=MAX_BUFFERED if self.holds else 0)

    def begin(self, size: int, length: int = LIMIT) -> Wire:
        """Connect one more client, which sends the beginning of a body."""
        wire = self.connect()
        wire.receive(wire.client, HEAD % length)
        send(wire, size)
        return wire


def send(wire: Wire, size: int) -> None:
    for at in range(0, size, len(PIECE)):
        wire.receive(wire.client, PIECE[: size - at])


@pytest.fixture
def clients() -> Clients:
    return Clients()


def test_request_body_below_the_buffer_limit_is_held_until_complete(clients: Clients) -> None:
    wire = clients.begin(1000, length=2000)
    assert wire.opening == []
    assert clients.budget.held == 1000
    send(wire, 1000)
    [flow] = clients.seen
    assert flow.request.stream is False
    assert wire.sent[wire.connect()].endswith(b"\r\n\r\n" + b"x" * 2000)


@pytest.mark.parametrize("chunked", [False, True])
def test_request_body_over_the_buffer_limit_is_streamed(clients: Clients, chunked: bool) -> None:
    wire = clients.connect()
    head = HEAD % (2 * MAX_BUFFERED)
    if chunked:
        head = head.replace(b"Content-Length: %d" % (2 * MAX_BUFFERED), b"Transfer-Encoding: chunked")
    wire.receive(wire.client, head)
    for _ in range(MAX_BUFFERED // len(PIECE)):
        wire.receive(wire.client, b"10000\r\n%b\r\n" % PIECE if chunked else PIECE)
    assert wire.opening == []
    wire.receive(wire.client, b"10000\r\n%b\r\n" % PIECE if chunked else PIECE)
    server = wire.connect()
    assert len(wire.sent[server]) > MAX_BUFFERED + len(PIECE)
    assert clients.budget.held == 0
    for _ in range(MAX_BUFFERED // len(PIECE) - 1):
        wire.receive(wire.client, b"10000\r\n%b\r\n" % PIECE if chunked else PIECE)
    wire.receive(wire.client, b"0\r\n\r\n" if chunked else b"")
    assert wire.sent[server].count(b"x") >= 2 * MAX_BUFFERED
    wire.receive(server, ANSWER)
    assert wire.to_client.endswith(b"ok")
    assert clients.budget.held == 0


def test_request_body_budget_is_released_when_the_client_disconnects(clients: Clients) -> None:
    wire = clients.begin(100_000)
    wire.close(wire.client)
    assert clients.budget.held == 0


def test_request_body_over_its_route_limit_gets_413_and_releases_its_budget(clients: Clients) -> None:
    wire = clients.connect()
    wire.receive(wire.client, HEAD.replace(b"Content-Length: %d", b"Transfer-Encoding: chunked"))
    clients.holds = True
    for _ in range(LIMIT // len(PIECE) + 1):
        wire.receive(wire.client, b"10000\r\n%b\r\n" % PIECE)
    assert len(wire.opening) == 1, "it waits for its upstream"
    assert clients.budget.held <= LIMIT + 2 * len(PIECE)
    wire.connect()
    assert wire.to_client.startswith(b"HTTP/1.1 413 ")
    assert clients.budget.held == 0


def test_request_body_budget_exhausted_refuses_the_costliest_body_with_503(clients: Clients) -> None:
    clients = Clients(budget=MAX_BUFFERED)
    slow = clients.begin(MAX_BUFFERED // 2)
    clients.clock.now += 10
    quick = clients.begin(MAX_BUFFERED // 2)
    clients.clock.now += 1
    third = clients.begin(1000, length=1000)
    assert clients.budget.held == MAX_BUFFERED // 2 + 1000
    assert slow.to_client == quick.to_client == b""
    slow.receive(slow.client, b"x")
    assert slow.to_client.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nretry-after: 1\r\n" in slow.to_client.lower()
    assert b'"type":"server_error"' in slow.to_client
    third.receive(third.connect(), ANSWER)
    assert third.to_client.endswith(b"ok")
    quick.receive(quick.client, b"x")
    assert quick.to_client == b""


@pytest.mark.parametrize("holds", [True, False])
def test_request_body_received_while_connecting_counts_in_the_budget(clients: Clients, holds: bool) -> None:
    clients.holds = holds
    wire = clients.begin(3 * MAX_BUFFERED)
    assert len(wire.opening) == 1
    assert clients.budget.held >= 3 * MAX_BUFFERED - len(PIECE)
    server = wire.connect()
    assert wire.sent[server].count(b"x") >= 3 * MAX_BUFFERED
    assert clients.budget.held == 0


@pytest.mark.parametrize("holds", [True, False])
def test_request_body_transform_runs_while_connecting(clients: Clients, holds: bool) -> None:
    work = Work(bytes.upper, b"end")
    clients.holds, clients.transforms = holds, [work]
    wire = clients.connect()
    wire.receive(wire.client, HEAD % (3 * MAX_BUFFERED))
    send(wire, 3 * MAX_BUFFERED)
    assert sum(map(len, work.taken)) >= 3 * MAX_BUFFERED - len(PIECE)
    server = wire.connect()
    assert sum(map(len, work.taken)) == 3 * MAX_BUFFERED
    assert work.taken[-1] == b""
    head, _, body = wire.sent[server].partition(b"\r\n\r\n")
    assert body.count(b"X") == 3 * MAX_BUFFERED
    assert body.endswith(b"3\r\nend\r\n0\r\n\r\n"), "framed by chunks, as its length is another than the client's"
    assert b"content-length" not in head.lower()


@pytest.mark.parametrize("holds", [True, False])
def test_request_body_budget_is_released_when_the_upstream_is_unreachable(clients: Clients, holds: bool) -> None:
    clients.holds = holds
    wire = clients.begin(3 * MAX_BUFFERED)
    wire.connect("refused")
    assert wire.to_client.startswith(b"HTTP/1.1 502 ")
    assert clients.budget.held == 0


@pytest.mark.parametrize("holds", [True, False])
def test_request_body_over_the_budget_while_connecting_gets_503(holds: bool) -> None:
    clients = Clients(budget=3 * MAX_BUFFERED)
    clients.holds = holds
    wire = clients.begin(5 * MAX_BUFFERED)
    assert clients.budget.held == 0
    server = wire.connect()
    wire.receive(wire.client, b"x")
    assert wire.to_client.startswith(b"HTTP/1.1 503 ")
    assert server.state is ConnectionState.CLOSED


def test_request_body_kept_for_a_retry_counts_until_the_response_begins(clients: Clients) -> None:
    wire = clients.begin(1000, length=1000)
    server = wire.connect()
    assert clients.budget.held == 0, "over a new connection there is no second attempt"
    wire.receive(server, ANSWER)
    wire.receive(wire.client, HEAD % 1000)
    send(wire, 1000)
    assert clients.budget.held == 1000
    wire.receive(server, ANSWER)
    assert wire.to_client.count(b"ok") == 2
    assert clients.budget.held == 0


@pytest.mark.parametrize("holds", [True, False], ids=["held first", "passed on at once"])
def test_request_body_passes_its_transform_in_order_however_it_waits(clients: Clients, holds: bool) -> None:
    """Some comes in one packet with the head, and waits for the hook; some waits for the upstream; some for nothing."""
    work = Work(lambda piece: piece.replace(b"-", b""))
    clients.holds, clients.transforms = holds, [work]
    pieces = [b"%d" % number + b"-" * (3 * MAX_BUFFERED // 10 - 1) + b"." for number in range(9)]
    wire = clients.connect()
    head = HEAD.replace(b"Content-Length: %d", b"Transfer-Encoding: chunked")
    chunks = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
    wire.receive(wire.client, head + b"".join(chunks[:5]))
    wire.receive(wire.client, b"".join(chunks[5:7]))
    server = wire.connect() if wire.opening else None
    wire.receive(wire.client, b"".join(chunks[7:]) + b"0\r\n\r\n")
    server = server or wire.connect()
    assert b"".join(work.taken) == b"".join(pieces)
    sent = wire.sent[server].partition(b"\r\n\r\n")[2]
    assert [sent.index(b"%d." % number) for number in range(9)] == sorted(sent.index(b"%d." % n) for n in range(9))
    assert sent.count(b".") == 9
    wire.receive(server, ANSWER)
    assert clients.budget.held == 0
