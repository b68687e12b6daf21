"""The fast path of a streamed response: what it takes, and that the client gets the same without it."""

import hashlib
from unittest.mock import Mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mitmproxy import http
from mitmproxy.connection import Client

from addons.bodies.end_detector import EndDetector
from addons.bodies.signing_filter import SigningFilter
from addons.bodies.stream_formats import CHAT, MESSAGES, RESPONSES, EventFormat
from addons.exchange.usage import Usage
from addons.layers.connections.fast_path_writer import Upstream
from addons.layers.connections.read_controller import ReadController
from addons.layers.http_layer import ApiHttpLayer
from addons.lifecycle.connection_handlers import ConnectionHandlers
from addons.upstream.keep_alive import KeepAliveLimit
from tests.addons.wire import Wire, make_config, make_context
from tests.support.cutting import cut, cuts

REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Request-Id: r\r\nContent-Length: 2\r\n\r\n{}"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
FIRST = b'data: {"id":"chatcmpl-1","choices":[]}\n\n'
TOKEN = b'data: {"id":"chatcmpl-1","choices":[{"delta":{"content":"a"}}]}\n\n'
NO_USAGE = b'data: {"id":"chatcmpl-1","choices":[{"delta":{"content":"a"}}],"usage":null}\n\n'
USAGE = b'data: {"id":"chatcmpl-1","choices":[],"usage":{"prompt_tokens":3}}\n\n'
DONE = b"data: [DONE]\n\n"


class Reading(ReadController):
    """Notes which upstream has a fast path."""

    upstream: Upstream | None = None

    def enable_fast_path(self, upstream: Upstream, client: Client) -> None:
        self.upstream = upstream


class StreamedChat:
    """A chat whose response comes through the layers, or by the fast path where that takes it.

    Attributes:
        fast: How many pieces took the fast path.
        completed: Of the finished answer, the hash and what its reader has found.
    """

    def __init__(self, event_format: EventFormat, *, by_fast_path: bool) -> None:
        self.fast = 0
        self.completed: list[tuple[str, str | None, object, bool]] = []
        self._event_format = event_format
        self._by_fast_path = by_fast_path
        self._reading = Reading(ConnectionHandlers({}))
        config = make_config()
        layer = ApiHttpLayer(make_context(), config, KeepAliveLimit(10), Mock(), self._reading)
        self.wire = Wire(layer)
        self.wire.hooks = {"responseheaders": self._tap}
        self.wire.receive(self.wire.client, REQUEST)
        self.server = self.wire.connect()

    def _tap(self, flow: http.HTTPFlow) -> None:
        assert flow.response is not None

        def sign(body: SigningFilter) -> None:
            reader = body.reader
            self.completed.append((body.digests[1], reader.id, reader.usage, reader.finished))

        flow.response.stream = SigningFilter(EndDetector(self._event_format), sign)

    def receive(self, piece: bytes) -> None:
        upstream = self._reading.upstream
        fast_path = upstream.fast_path if upstream is not None else None
        taken = fast_path.take(piece) if self._by_fast_path and fast_path is not None else 0
        self.fast += taken > 0
        self.wire.to_client += piece[:taken]
        if taken < len(piece):
            self.wire.receive(self.server, piece[taken:])


def chunked(content: bytes, size_line: bytes | None = None) -> bytes:
    return (size_line or b"%x" % len(content)) + b"\r\n" + content + b"\r\n"


def written_oddly(content: bytes, how: int) -> bytes:
    size = len(content)
    return chunked(content, [b"%x" % size, b"%X" % size, b"0%x" % size, b"%x;name=value" % size][how])


odd_events = st.one_of(
    st.sampled_from(
        [FIRST, TOKEN, NO_USAGE, USAGE, DONE, b": ping\n\n", b"event: x\ndata: {}\n\n", b"\n", b"\r", b"\r\n"]
    ),
    st.sampled_from(
        [b'data: {"type":"message_stop"}\n\n', b"event: response.completed\ndata: {}\n\n", b"\xef\xbb\xbf"]
    ),
    st.sampled_from([TOKEN.replace(b"\n", b"\r\n"), TOKEN.replace(b"\n", b"\r"), TOKEN[:20], TOKEN[20:]]),
    st.sampled_from(
        [b"event: message_stop\n", b"event: response.completed\n", b"data: {}\n\n", b"data: [DON", b"E]\n"]
    ),
    st.binary(min_size=1, max_size=20),
)
plain_events = st.lists(st.sampled_from([TOKEN, NO_USAGE, TOKEN + NO_USAGE]), max_size=8)
contents = st.one_of(
    st.tuples(plain_events, plain_events).map(lambda both: [FIRST, *both[0], USAGE, *both[1], DONE]),
    st.lists(odd_events, max_size=12).map(lambda events: [FIRST, *events]),
    st.lists(odd_events, min_size=1, max_size=12),
)


@given(
    contents,
    st.lists(st.sampled_from([0, 0, 0, 0, 1, 2, 3]), min_size=20, max_size=20),
    st.one_of(st.none(), cuts),
    st.sampled_from([CHAT, RESPONSES, MESSAGES]),
    st.sampled_from([b"0\r\n\r\n", b"0\r\nTrailer: x\r\n\r\n", b"", b"nonsense\r\n"]),
)
@example([FIRST, TOKEN, NO_USAGE, DONE], [0] * 20, None, CHAT, b"0\r\n\r\n")
def test_fast_path_output_equals_that_of_the_layers(
    contents: list[bytes], how: list[int], where: list[int] | None, event_format: EventFormat, end: bytes
) -> None:
    chunks = [written_oddly(content, way) for content, way in zip(contents, how, strict=False)]
    pieces = [*chunks, *([end] if end else [])] if where is None else cut(b"".join(chunks) + end, where)
    layered, fast = (StreamedChat(event_format, by_fast_path=by_fast_path) for by_fast_path in (False, True))
    for chat in (layered, fast):
        chat.receive(HEAD)
    assert fast.wire.to_client == layered.wire.to_client
    for piece in pieces:
        for chat in (layered, fast):
            chat.receive(piece)
        assert fast.wire.to_client == layered.wire.to_client
        assert fast.completed == layered.completed
        assert fast.server.state is layered.server.state
        assert fast.wire.client.state is layered.wire.client.state
    for chat in (layered, fast):
        chat.wire.close(chat.server)
    assert fast.wire.to_client == layered.wire.to_client
    assert fast.completed == layered.completed


def test_fast_path_takes_only_events_with_nothing_to_extract() -> None:
    chat = StreamedChat(CHAT, by_fast_path=True)
    chat.receive(HEAD)
    taken = []
    for content in (FIRST, TOKEN, NO_USAGE, TOKEN + TOKEN, USAGE, TOKEN, DONE):
        before = chat.fast
        chat.receive(chunked(content))
        taken.append(chat.fast > before)
    chat.receive(b"0\r\n\r\n")
    body = FIRST + TOKEN + NO_USAGE + TOKEN + TOKEN + USAGE + TOKEN + DONE
    assert taken == [False, True, True, True, False, True, False]
    assert chat.completed == [(hashlib.sha256(body).hexdigest(), "chatcmpl-1", Usage(3, None), True)]


def test_fast_path_takes_the_leading_chunks_up_to_the_first_ineligible_one() -> None:
    chat = StreamedChat(CHAT, by_fast_path=True)
    chat.receive(HEAD + chunked(FIRST))
    for count, (taken, rest) in enumerate(
        [
            (chunked(TOKEN) + chunked(NO_USAGE), b""),
            (chunked(TOKEN), chunked(USAGE) + chunked(TOKEN)),
            (chunked(TOKEN), chunked(TOKEN)[:-1]),
        ],
        1,
    ):
        upstream = chat._reading.upstream
        assert upstream is not None
        assert upstream.fast_path is not None
        assert upstream.fast_path.take(taken + rest) == len(taken)
        chat.wire.receive(chat.server, rest)
        assert chat.completed == [], count
    chat.receive(b"\n")
    chat.receive(chunked(TOKEN) + b"5")
    assert chat.fast == 1
    chat.receive(b"\r\n: x\n\n\r\n")
    assert chat.fast == 1
    chat.receive(chunked(TOKEN))
    assert chat.fast == 2


@pytest.mark.parametrize("before", [b"48\r\nsix+6\n", b"48\r\n", b"1"])
def test_fast_path_does_not_take_chunk_like_data_inside_a_chunk(before: bytes) -> None:
    layered, fast = (StreamedChat(CHAT, by_fast_path=by_fast_path) for by_fast_path in (False, True))
    for chat in (layered, fast):
        chat.receive(HEAD + chunked(FIRST))
        chat.receive(before)
        chat.receive(chunked(b": not a chunk\n\n"))
        assert chat.fast == 0
    assert fast.wire.to_client == layered.wire.to_client


@pytest.mark.parametrize(
    ("event_format", "event_type"),
    [(MESSAGES, b"message_stop"), (RESPONSES, b"response.completed")],
    ids=["messages", "responses"],
)
def test_fast_path_does_not_take_the_data_of_a_last_event_whose_type_came_before(
    event_format: EventFormat, event_type: bytes
) -> None:
    chat = StreamedChat(event_format, by_fast_path=True)
    chat.receive(HEAD + chunked(b'data: {"type":"message_start","message":{"id":"a"},"response":{"id":"a"}}\n\n'))
    chat.receive(chunked(b"event: " + event_type + b"\n"))
    chat.receive(chunked(b"data: {}\n\n"))
    assert chat.fast == 0
    assert not chat.wire.to_client.endswith(b"data: {}\n\n\r\n"), "it waits for the signature"


def test_fast_path_is_enabled_again_for_the_next_response_on_a_connection() -> None:
    chat = StreamedChat(CHAT, by_fast_path=True)
    for number in range(1, 4):
        chat.receive(HEAD + chunked(FIRST))
        chat.receive(chunked(TOKEN))
        assert chat.fast == number
        chat.receive(chunked(DONE))
        chat.receive(b"0\r\n\r\n")
        assert len(chat.completed) == number
        chat.receive(chunked(TOKEN)) if number == 3 else chat.wire.receive(chat.wire.client, REQUEST)
    assert chat.fast == 3
    assert chat.wire.to_client.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
