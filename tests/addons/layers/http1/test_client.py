"""Malformed responses, in memory: no upstream bytes raise an exception, and the client gets valid HTTP."""

from unittest.mock import Mock

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mitmproxy import http
from mitmproxy.connection import ConnectionState

from addons.layers.http1.client import MAX_HEAD
from addons.layers.http_layer import ApiHttpLayer
from addons.upstream.keep_alive import KeepAliveLimit
from tests.addons.wire import Wire, make_config, make_context, no_reading

CANARY = "XCANARYX"
BODY = b'{"id":"%s"}' % CANARY.encode()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n8\r\n" + BODY[:8] + b"\r\n%x\r\n" % (len(BODY) - 8) + BODY[8:]
ANSWERS = (
    HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY,
    CHUNKED + b"\r\n0\r\n\r\n",
    CHUNKED + b"\r\n0;x=y\r\nX-Trailer: y\r\n\r\n",
    HEAD + b"Connection: close\r\n\r\n" + BODY,
    b"HTTP/1.0 500 Oh\r\n\r\n" + BODY,
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nX: y\r\n\r\n",
)
REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"


class SentRequest:
    """A request that was sent, and its flow."""

    def __init__(self, request: bytes = REQUEST, *, keeps_host: bool = False) -> None:
        config, context = make_config(1_000_000), make_context()
        if keeps_host:
            context.options.update(keep_host_header=True)
        self.idle = KeepAliveLimit(10)
        self.layer = ApiHttpLayer(context, config, self.idle, Mock(), no_reading())
        self.wire = Wire(self.layer)
        self.flows: list[http.HTTPFlow] = []
        self.wire.hooks = {"requestheaders": self.flows.append, "responseheaders": self._stream}
        self.wire.receive(self.wire.client, request)
        self.server = self.wire.connect()

    @staticmethod
    def _stream(flow: http.HTTPFlow) -> None:
        assert flow.response is not None
        flow.response.stream = True

    def answer(self, data: bytes) -> None:
        self.wire.receive(self.server, data)

    @property
    def client_is_connected(self) -> bool:
        return self.wire.client.state is ConnectionState.OPEN


def parse(received: bytes, *, ended: bool) -> tuple[int, bytes, bool]:
    """Status, body and completeness of an answer.

    Raises:
        h11.RemoteProtocolError: It is not HTTP.
    """
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=2**20)
    connection.send(h11.Request(method="POST", target="/", headers=[("Host", "x"), ("Content-Length", "0")]))
    connection.send(h11.EndOfMessage())
    for data in [received] * bool(received) + [b""] * ended:
        connection.receive_data(data)
    status, body = 0, b""
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError as error:
            if "closed connection" in str(error):
                return status, body, False
            raise
        if isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return status, body, True
        elif not isinstance(event, h11.InformationalResponse):  # no more data, or the end of the connection
            return status, body, False


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """An answer with some of it missing, doubled or replaced."""
    answer = draw(st.sampled_from(ANSWERS))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(answer)))
        end = min(len(answer), start + draw(st.integers(0, 12)))
        put = draw(
            st.one_of(
                st.binary(max_size=6),
                st.just(answer[start:end] * 2),
                st.sampled_from([b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\0", b" ", b":", b"-1", b"0", b"ffffffff"]),
            )
        )
        answer = answer[:start] + put + answer[end:]
    return answer


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(mutated(), st.binary(max_size=60)), st.lists(st.integers(0, 200), max_size=4).map(sorted), st.booleans()
)
def test_http1_client_any_upstream_bytes_give_valid_http_to_the_client(
    answer: bytes, cuts: list[int], closes: bool
) -> None:
    sent = SentRequest()
    for start, end in zip([0, *cuts], [*cuts, len(answer)], strict=True):
        if answer[start:end]:
            sent.answer(answer[start:end])
    if closes:
        sent.wire.close(sent.server)
    status, body, complete = parse(sent.wire.to_client, ended=not sent.client_is_connected)
    if closes:
        assert complete or not sent.client_is_connected, "it would wait for ever"
    if complete and status != 502:
        try:
            expected = parse(answer, ended=closes)
        except h11.RemoteProtocolError:
            return  # h11 is stricter about what a field may hold
        assert (status, body, complete) == expected
    said = str(sent.wire.logged) + str([flow.error for flow in sent.flows])
    assert CANARY not in said


def test_http1_client_response_fed_byte_by_byte_is_the_same() -> None:
    for answer in ANSWERS:
        at_once, bytewise = SentRequest(), SentRequest()
        at_once.answer(answer)
        for byte in answer:
            bytewise.answer(bytes([byte]))
        for sent in (at_once, bytewise):
            sent.wire.close(sent.server)
        assert parse(at_once.wire.to_client, ended=True) == parse(bytewise.wire.to_client, ended=True)
        assert parse(at_once.wire.to_client, ended=True)[2]


@pytest.mark.parametrize(
    ("beginning", "more"),
    [
        (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 1000),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 100),
        (CHUNKED + b"\r\n", b"0" * 1000),
        (CHUNKED + b"\r\n0\r\n", b"X: y\r\n" * 100),
    ],
    ids=["a field", "fields", "a chunk's size", "trailers"],
)
def test_http1_client_endless_head_chunk_size_or_trailers_close_the_connection(beginning: bytes, more: bytes) -> None:
    sent = SentRequest()
    sent.answer(beginning)
    for _ in range(MAX_HEAD // len(more) + 2):
        sent.answer(more)
    assert sent.server.state is ConnectionState.CLOSED
    assert not sent.client_is_connected


def test_http1_client_unsolicited_second_response_does_not_answer_the_next_request() -> None:
    sent = SentRequest(REQUEST + REQUEST)
    sent.answer(ANSWERS[0] + ANSWERS[0].replace(b"200", b"418"))
    assert sent.server.state is ConnectionState.CLOSED
    second = sent.wire.connect()
    sent.wire.receive(second, ANSWERS[1])
    assert b"HTTP/1.1 418 " not in sent.wire.to_client
    assert sent.wire.to_client.count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.parametrize("answer", ANSWERS[:3])
def test_http1_client_keeps_the_connection_after_a_self_delimited_response(answer: bytes) -> None:
    sent = SentRequest(REQUEST + REQUEST)
    sent.answer(answer)
    assert sent.wire.sent[sent.server].count(b"POST ") == 2
    assert sent.wire.opening == []


def test_http_1_0_request_without_host_is_sent_as_http_1_1_with_the_upstreams_host() -> None:
    sent = SentRequest(b"GET /v1/models HTTP/1.0\r\n\r\n", keeps_host=True)
    request = sent.wire.sent[sent.server]
    assert request.startswith(b"GET /v1/models HTTP/1.1\r\n")
    assert b"\r\nHost: upstream:9000\r\n" in request


def test_http_1_0_request_with_content_length_in_any_case_is_framed_once() -> None:
    sent = SentRequest(b"POST /v1/chat/completions HTTP/1.0\r\nHost: x\r\nCONTENT-LENGTH: 2\r\n\r\n{}")
    request = sent.wire.sent[sent.server].lower()
    assert request.count(b"\r\ncontent-length: 2\r\n") == 1
    assert b"transfer-encoding" not in request
