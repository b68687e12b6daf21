"""The layer, fed with bytes: it accepts no more requests than h11 would accept."""

from dataclasses import dataclass, field

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mitmproxy import http
from mitmproxy.connection import ConnectionState
from mitmproxy.options import Options
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import (
    HttpEvent,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
)
from mitmproxy.test import tflow

from addons.access.client_deadline import ClientDeadline, ClientTimeouts
from addons.layers.http1.server import MAX_AHEAD, MAX_UNREAD, ApiHttp1Server, ClientTooSlow
from addons.messages.request_head import MAX_HEAD


@dataclass
class Taken:
    """A request as the layer has handed it on."""

    request: http.Request
    pieces: list[bytes] = field(default_factory=list)
    complete: bool = False


class Driver:
    """Feeds the layer, answers what it hands on, and keeps the commands that it gives."""

    def __init__(self, *, answers: bool = True, unread: int = 0) -> None:
        self._answers = answers
        self.deadline = ClientDeadline(ClientTimeouts(head=30, body=60, idle=120))
        self._client = tflow.tclient_conn()
        self._client.state = ConnectionState.OPEN
        self._client.tls = False
        self.layer = ApiHttp1Server(
            Context(self._client, Options()), lambda _request, _answer: None, self.deadline, lambda: unread
        )
        self.taken: list[Taken] = []
        self.sent = b""
        self.open = True
        self.half_open = True
        self.given_up = 0
        self._handle(events.Start())

    def feed(self, data: bytes) -> None:
        if self.open:
            self._handle(events.DataReceived(self._client, data))

    def answer(self) -> None:
        response = http.Response.make(200, b"ok")
        stream_id = self.layer.stream_id
        answered: list[HttpEvent] = [
            ResponseHeaders(stream_id, response),
            ResponseData(stream_id, b"ok"),
            ResponseEndOfMessage(stream_id),
        ]
        for event in answered:
            self._handle(event)

    def overdue(self) -> None:
        self._handle(ClientTooSlow(self.layer.stream_id))

    def _handle(self, event: events.Event) -> None:
        for command in self.layer.handle_event(event):
            if isinstance(command, commands.SendData):
                assert self.half_open
                self.sent += command.data
            elif isinstance(command, commands.CloseTcpConnection) and command.half_close:
                self.half_open = False
                self._client.state = ConnectionState.CAN_READ
            elif isinstance(command, commands.CloseConnection):
                self.open = self.half_open = False
                self._client.state = ConnectionState.CLOSED
            elif isinstance(command, ReceiveHttp):
                self._receive(command.event)

    def _receive(self, event: HttpEvent) -> None:
        if isinstance(event, RequestHeaders):
            self.taken.append(Taken(event.request))
        elif isinstance(event, RequestData):
            self.taken[-1].pieces.append(event.data)
        elif isinstance(event, RequestEndOfMessage):
            self.taken[-1].complete = True
        elif isinstance(event, RequestProtocolError):
            self.given_up += 1

    def run(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            self.feed(piece)
            while self._answers and self.open and self.half_open and self._is_asked():
                self.answer()

    def _is_asked(self) -> bool:
        return self.layer.request_done and not self.layer.response_done


Request = tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes]


def as_h11_reads(data: bytes) -> list[Request]:
    """The whole requests at the beginning of this, and the one after them as far as it goes."""
    requests: list[Request] = []
    while data := data.removeprefix(b"\r\n"):  # h11 forgives none, where RFC 9112, 2.2, wants one forgiven
        reader = h11.Connection(h11.SERVER, max_incomplete_event_size=2**20)
        reader.receive_data(data)
        while True:
            try:
                event = reader.next_event()
            except h11.RemoteProtocolError:
                return requests
            if isinstance(event, h11.Request):
                requests.append((event.method, event.target, list(event.headers), b""))
            elif isinstance(event, h11.Data):
                method, target, headers, body = requests[-1]
                requests[-1] = (method, target, headers, body + bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                data = reader.trailing_data[0]
                break
            else:
                return requests
    return requests


HEAD = b"POST /v1/x HTTP/1.1\r\nHost: x\r\n"
BASES = [
    HEAD + b"Content-Length: 5\r\n\r\nhello",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
    HEAD + b"Connection: close\r\n\r\n",
    b"GET /health HTTP/1.0\r\n\r\n",
    b"\r\nGET /v1/y?a=%2e HTTP/1.1\r\nHost: x\r\nX-Y:  a b \r\n\r\n",
]
SNIPPETS = [b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b":", b"\0", b"\x0b", b",", b"+", b"0", b"5", b"chunked"]
SNIPPETS += [
    b"Content-Length: 9\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Host: y\r\n",
]
MUTATION = st.tuples(st.integers(0, 400), st.sampled_from(SNIPPETS) | st.binary(max_size=4), st.integers(0, 4))


@given(
    st.lists(st.sampled_from(BASES), min_size=1, max_size=3),
    st.lists(MUTATION, max_size=4),
    st.lists(st.integers(1, 60), max_size=10),
)
@example(BASES[:3], [], [1] * 10)
@example(BASES[:1], [(0, b"\r\n\r\n", 0)], [2])
@settings(max_examples=300, deadline=None)
def test_http1_server_takes_any_input_as_h11_reads_it_or_refuses_it(
    bases: list[bytes], mutations: list[tuple[int, bytes, int]], cuts: list[int]
) -> None:
    data = b"".join(bases)
    for at, inserted, removed in mutations:
        place = at % (len(data) + 1)
        data = data[:place] + inserted + data[place + removed :]
    pieces = []
    rest = data
    for size in cuts:
        pieces.append(rest[:size])
        rest = rest[size:]
    driver = Driver()
    driver.run([piece for piece in [*pieces, rest] if piece])

    read = as_h11_reads(data)
    assert len(driver.taken) <= len(read)
    for taken, (method, target, headers, body) in zip(driver.taken, read, strict=False):
        request = taken.request.data
        assert (request.method, request.path) == (method, target)
        assert [(name.lower(), value) for name, value in request.headers.fields[:-1]] == headers
        assert request.headers.fields[-1][0] == b"X-Request-Id", "which is made here"
        assert b"".join(taken.pieces) == body if taken.complete else body.startswith(b"".join(taken.pieces))
    assert driver.sent.count(b"HTTP/1.1 4") == (not driver.half_open and driver.open)


@given(st.binary(max_size=300), st.integers(1, 50))
def test_http1_server_random_bytes_raise_nothing(data: bytes, size: int) -> None:
    driver = Driver()
    driver.run([data[at : at + size] for at in range(0, len(data), size)])
    assert not driver.taken


def test_http1_server_forwards_chunks_received_together_as_one_piece() -> None:
    driver = Driver()
    driver.run([HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 1000 + b"0\r\n\r\n"])
    assert driver.taken[0].pieces == [b"a" * 1000]
    assert driver.taken[0].complete


@pytest.mark.parametrize("endless", [b"a", b"X: y\r\n", b"5;a"])
@pytest.mark.parametrize("begun", [b"", HEAD, HEAD + b"Transfer-Encoding: chunked\r\n\r\n"])
def test_http1_server_endless_head_or_chunk_line_is_refused_with_bounded_memory(begun: bytes, endless: bytes) -> None:
    driver = Driver()
    driver.feed(begun)
    most = 0
    for _ in range(100):
        driver.feed(endless * (10_000 // len(endless)))
        most = max(most, len(driver.layer.buf))
    assert most <= MAX_HEAD + 10_000
    assert driver.sent.count(b"HTTP/1.1 4") == 1


def test_http1_server_buffers_pipelined_requests_up_to_a_limit() -> None:
    driver = Driver(answers=False)
    request = HEAD + b"\r\n"
    driver.run([request * 3])
    for _ in range(2):
        driver.answer()
    assert len(driver.taken) == 3
    for _ in range(100):
        driver.feed(b"x" * 10_000)
        assert len(driver.layer.buf) <= MAX_AHEAD + 10_000
    driver.answer()
    assert not driver.open
    assert len(driver.taken) == 3
    assert driver.sent.count(b"HTTP/1.1 200") == 3
    assert b"connection: close" in driver.sent


@pytest.mark.parametrize("unread", [MAX_UNREAD, MAX_UNREAD + 1])
def test_http1_server_closes_when_a_pipelining_client_does_not_read(unread: int) -> None:
    driver = Driver(unread=unread)
    driver.run([(HEAD + b"\r\n") * 3])
    assert driver.sent.count(b"HTTP/1.1 200") == len(driver.taken) == (3 if unread == MAX_UNREAD else 1)
    assert driver.open is (unread == MAX_UNREAD)
    assert (b"connection: close" in driver.sent) is not driver.open


def test_http1_server_without_pipelining_lets_the_client_read_slowly() -> None:
    driver = Driver(unread=MAX_UNREAD + 1)
    for _ in range(3):
        driver.run([HEAD + b"\r\n"])
    assert driver.open
    assert driver.sent.count(b"HTTP/1.1 200") == 3


def test_http1_server_aborts_a_client_that_keeps_sending_too_far_ahead() -> None:
    driver = Driver(answers=False)
    driver.run([HEAD + b"\r\n"])
    for _ in range(200):
        driver.feed(b"x" * 100_000)
    assert not driver.open


@pytest.mark.parametrize(
    ("fed", "status"),
    [
        (b"", None),
        (HEAD, b"408"),
        (HEAD + b"Content-Length: 5\r\n\r\nhell", b"408"),
        (HEAD + b"Content-Length: 5\r\n\r\n", b"408"),
    ],
)
def test_http1_server_overdue_client_gets_408_if_it_has_sent_anything(fed: bytes, status: bytes | None) -> None:
    driver = Driver()
    driver.feed(fed)
    assert driver.deadline.deadline is not None
    driver.overdue()
    assert driver.sent[9:12] == (status or b"")
    assert driver.given_up == len(driver.taken)
    assert driver.open is (status is not None), "it may read yet why"
    driver.overdue()
    assert not driver.open


def test_http1_server_deadline_runs_only_while_it_waits_for_the_client() -> None:
    driver = Driver(answers=False)
    assert driver.deadline.deadline is not None
    driver.feed(HEAD + b"Content-Length: 5\r\n\r\nhell")
    assert driver.deadline.deadline is not None
    driver.feed(b"o")
    assert driver.deadline.deadline is None
    driver.answer()
    assert driver.deadline.deadline is not None


def test_http1_server_discards_a_refused_clients_data_up_to_a_limit_and_closes() -> None:
    driver = Driver()
    driver.feed(HEAD + b"bad line\r\n\r\n")
    assert driver.open
    assert not driver.half_open
    for _ in range(200):
        driver.feed(b"x" * 100_000)
        assert len(driver.layer.buf) == 0
    assert not driver.open
