"""What hostile clients do over HTTP/2, frame by frame, and what becomes of it."""

import contextlib
import json
from collections.abc import Iterator

import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from tests.e2e.support.http2_client import Fields, Http2Client, fields
from tests.e2e.support.processes import TOKEN, Proxy, running_proxy
from tests.e2e.support.raw_client import RawClient, chat_body, error_of
from tests.e2e.support.scripted_upstream import Peer, ScriptedUpstream, answering, json_response

JSON = ("content-type", "application/json")


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    """An upstream that takes note of whole requests, and answers all of them."""

    def script(peer: Peer) -> None:
        with contextlib.suppress(AssertionError, ConnectionError):  # where a request is cut short
            answering(lambda _: json_response(b'{"id":"c1"}'))(peer)

    with ScriptedUpstream(script) as running:
        yield running


@pytest.fixture(scope="module")
def recorded(upstream: ScriptedUpstream) -> Iterator[Proxy]:
    """A proxy before it."""
    with running_proxy(upstream.url) as running:
        yield running


@pytest.fixture(scope="module")
def bystander(recorded: Proxy) -> Iterator[Http2Client]:
    """Another client, who has nothing to do with it and stays connected."""
    with Http2Client(recorded.port) as connected:
        yield connected


@pytest.fixture
def client(recorded: Proxy, upstream: ScriptedUpstream, bystander: Http2Client) -> Iterator[Http2Client]:
    """A connection. Behind it the proxy works, and the upstream has seen no request that the test does not know of."""
    with Http2Client(recorded.port) as connected:
        yield connected
    assert upstream.requests.empty(), "something else than was sent has reached the upstream"
    assert bystander.request(fields(), chat_body()).status == 200
    received = upstream.requests.get_nowait()
    assert (received.head.split("\r\n")[0], received.body) == ("POST /v1/chat/completions HTTP/1.1", chat_body())
    assert "Traceback" not in recorded.process.output


def swapped(name: str, value: str | None, headers: Fields | None = None) -> Fields:
    """A good request with one pseudo-header changed, or taken out."""
    kept = [(key, value if key == name else old) for key, old in headers or fields()]
    return [(key, text) for key, text in kept if text is not None]


SMUGGLED = "/ HTTP/1.1\r\nhost: x\r\n\r\nGET /smuggled"

MALFORMED: dict[str, Fields] = {
    "no method": swapped(":method", None),
    "no path": swapped(":path", None),
    "no scheme": swapped(":scheme", None),
    "no authority": swapped(":authority", None),
    "empty path": swapped(":path", ""),
    "path without a slash": swapped(":path", "v1/chat/completions"),
    "absolute path": swapped(":path", "https://proxy/v1/chat/completions"),
    "space in path": swapped(":path", "/v1/chat/completions HTTP/1.1"),
    "line break in path": swapped(":path", SMUGGLED),
    "NUL in path": swapped(":path", "/v1/chat\0"),
    "non-ASCII in path": swapped(":path", "/v1/chät"),
    "star": [(":method", "OPTIONS"), *swapped(":path", "*")[1:]],
    "fragment in path": swapped(":path", "/v1/chat/completions#x"),
    "method in small letters": swapped(":method", "post"),
    "more headers than anybody needs": [*fields(), *[("x", "y")] * 100],
    "two paths": [*fields()[:4], (":path", "/v1/models"), *fields()[4:]],
    "late path": [*fields(), (":path", "/v1/models")],
    "space in method": swapped(":method", "GET /smuggled"),
    "line break in method": swapped(":method", SMUGGLED),
    "CONNECT": swapped(":method", "CONNECT"),
    "CONNECT as it is": [(":method", "CONNECT"), (":authority", "elsewhere:443")],
    "CONNECT to a WebSocket": [*swapped(":method", "CONNECT")[:4], (":protocol", "websocket"), *fields()[4:]],
    "odd scheme": swapped(":scheme", "file"),
    "user in authority": swapped(":authority", "me@proxy"),
    "path in authority": swapped(":authority", "proxy/v1/models"),
    "line break in authority": swapped(":authority", "proxy\r\nx: y"),
    "another host": [*fields(), ("host", "elsewhere")],
    "two hosts": [*fields(), ("host", "proxy"), ("host", "elsewhere")],
    "unknown pseudo-header": [*fields()[:4], (":status", "200"), *fields()[4:]],
    "upper case": [*fields(), ("Content-Type", "application/json")],
    "empty name": [*fields(), ("", "x")],
    "space in name": [*fields(), ("x y", "z")],
    "colon in name": [*fields(), ("x:y", "z")],
    "line break in name": [*fields(), ("x\r\ny", "z")],
    "odd sign in name": [*fields(), ("x(y", "z")],
    "line break in value": [*fields(), ("x", "y\r\nz: 1")],
    "bare LF in value": [*fields(), ("x", "y\nz: 1")],
    "NUL in value": [*fields(), ("x", "y\0")],
    "control byte in value": [*fields(), ("x", "y\x08")],
    "connection": [*fields(), ("connection", "close")],
    "transfer-encoding": [*fields(), ("transfer-encoding", "chunked")],
    "upgrade": [*fields(), ("upgrade", "websocket")],
    "keep-alive": [*fields(), ("keep-alive", "5")],
    "proxy-connection": [*fields(), ("proxy-connection", "keep-alive")],
    "te": [*fields(), ("te", "gzip")],
    "two authorizations": [*fields(), ("authorization", f"Bearer {TOKEN}")],
    "two lengths": [*fields(), ("content-length", "2"), ("content-length", "2")],
    "signed length": [*fields(), ("content-length", "+2")],
    "list of lengths": [*fields(), ("content-length", "2, 2")],
    "underscored length": [*fields(), ("content-length", "0_2")],
}


@pytest.mark.parametrize("headers", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_request_headers_are_refused_and_not_forwarded(
    client: Http2Client, recorded: Proxy, headers: Fields
) -> None:
    bad = client.begin(headers)
    client.send(bad, b"{}", end=True)
    client.wait(lambda: client.answers[bad].reset is not None or client.gone is not None)
    assert client.answers[bad].status == 0
    assert "smuggled" not in recorded.process.output
    assert TOKEN not in recorded.process.output


def no_length(*more: tuple[str, str]) -> Fields:
    return fields("POST", "/v1/files", JSON, *more)


@pytest.mark.parametrize("path", ["/v1/files", "/v1/chat/completions"], ids=["streamed", "buffered"])
def test_body_with_request_like_bytes_is_forwarded_as_one_body(
    client: Http2Client, upstream: ScriptedUpstream, path: str
) -> None:
    """Neither an empty frame in its middle nor what looks like a request ends it."""
    pieces = [b'{"a":\r\n0', b"", b'\r\n\r\n, "GET /smuggled HTTP/1.1":\r\n\r\n0\r\n', b"", b"}"]
    answer = client.request(fields("POST", path, JSON), pieces)
    assert (answer.status, answer.ended) == (200, True)
    received = upstream.requests.get_nowait()
    assert received.body == b"".join(pieces)
    assert received.header("transfer-encoding") == "chunked"
    assert received.header("content-length") is None


def test_correct_content_length_is_forwarded(client: Http2Client, upstream: ScriptedUpstream) -> None:
    for path in ("/v1/files", "/v1/chat/completions"):
        answer = client.request(fields("POST", path, JSON, ("content-length", "2")), [b"{", b"", b"}"])
        assert answer.status == 200
        received = upstream.requests.get_nowait()
        assert (received.header("content-length"), received.body) == ("2", b"{}")
        assert received.header("transfer-encoding") is None


def test_request_without_a_body_is_forwarded_without_one(client: Http2Client, upstream: ScriptedUpstream) -> None:
    for ended_by in ("headers", "data", "trailers"):
        stream_id = client.begin(fields("GET", "/v1/models"), end=ended_by == "headers")
        if ended_by == "data":
            client.send(stream_id, b"", end=True)
        elif ended_by == "trailers":
            client.h2.send_headers(stream_id, [("x-trailer", "1")], end_stream=True)
            client.flush()
        assert client.finish(stream_id).status == 200
        received = upstream.requests.get_nowait()
        assert received.body == b""
        assert received.header("x-trailer") is None


@pytest.mark.parametrize("length", ["1", "3"])
@pytest.mark.parametrize("ended_by", ["headers", "data", "trailers"])
@pytest.mark.parametrize("path", ["/v1/files", "/v1/chat/completions"], ids=["streamed", "buffered"])
def test_wrong_content_length_is_refused_and_not_forwarded(
    client: Http2Client, upstream: ScriptedUpstream, path: str, ended_by: str, length: str
) -> None:
    stream_id = client.begin(fields("POST", path, JSON, ("content-length", length)), end=ended_by == "headers")
    if ended_by == "data":
        client.send(stream_id, b"{}", end=True)
    elif ended_by == "trailers":
        client.send(stream_id, b"{}")
        client.h2.send_headers(stream_id, [("x-trailer", "1")], end_stream=True)
        client.flush()
    answer = client.answers[stream_id]
    client.wait(lambda: answer.reset is not None or client.gone is not None)
    assert not answer.ended
    assert upstream.requests.empty()


def test_trailers_are_dropped(client: Http2Client, upstream: ScriptedUpstream) -> None:
    for path in ("/v1/files", "/v1/chat/completions"):
        stream_id = client.begin(fields("POST", path, JSON))
        client.send(stream_id, b"{}")
        client.h2.send_headers(stream_id, [("authorization", "x"), ("content-length", "9")], end_stream=True)
        client.flush()
        assert client.finish(stream_id).status == 200
        assert upstream.requests.get_nowait().body == b"{}"


class UnknownFrame(PingFrame):
    """A frame of a type that nobody knows."""

    type = 0xBE


FLOODS: dict[str, list[Frame]] = {
    "ping": [PingFrame(0, b"floodish")],
    "settings": [SettingsFrame(0, {SettingCodes.HEADER_TABLE_SIZE: 2**31})],
    "priority": [PriorityFrame(1, depends_on=0, stream_weight=1)],
    "window update": [WindowUpdateFrame(0, 1)],
    "unknown": [UnknownFrame(0, b"whatever")],
    "empty data": [DataFrame(1, b"")],
    "tiny data": [DataFrame(1, b"x")],
    "padding": [DataFrame(1, b"", pad_length=1, flags=["PADDED"])],
    "reset": [RstStreamFrame(1)],
}


@pytest.mark.parametrize("frames", FLOODS.values(), ids=FLOODS.keys())
def test_frame_flood_closes_the_connection(client: Http2Client, frames: list[Frame]) -> None:
    client.begin(no_length(("authorization", "Bearer wrong")))
    for _ in range(40):
        client.send_frames(*frames * 200)
    client.wait_closed()
    assert client.gone in (None, ErrorCodes.ENHANCE_YOUR_CALM, ErrorCodes.STREAM_CLOSED)


def test_rapid_resets_close_the_connection(client: Http2Client, upstream: ScriptedUpstream) -> None:
    for _ in range(1000):
        stream_id = client.begin(fields(), end=False)
        client.h2.reset_stream(stream_id)
    client.flush()
    client.wait_closed()
    assert client.gone == ErrorCodes.ENHANCE_YOUR_CALM
    assert upstream.requests.empty()


def test_endless_malformed_requests_close_the_connection(client: Http2Client) -> None:
    for _ in range(3000):  # on a slow machine, time pays for some of them
        stream_id = client.begin(swapped(":path", "*"), end=True)
        client.finish(stream_id)
        if client.closed:
            break
    assert client.gone == ErrorCodes.ENHANCE_YOUR_CALM


def test_endless_header_block_closes_the_connection(client: Http2Client) -> None:
    block = Encoder().encode([(b":method", b"GET")])
    client.send_frames(HeadersFrame(1, block))
    client.send_frames(*[ContinuationFrame(1, b"\0" * 16_000)] * 5)
    client.wait_closed()
    assert client.gone == ErrorCodes.ENHANCE_YOUR_CALM


def test_hpack_bomb_closes_the_connection(client: Http2Client) -> None:
    large = ("x-large", "x" * 3000)
    client.begin([*fields("GET", "/v1/models"), *[large] * 100], end=True)  # one byte each, from the second on
    client.wait_closed()
    assert client.gone == ErrorCodes.ENHANCE_YOUR_CALM


def test_oversized_frame_closes_the_connection_before_its_payload_arrives(client: Http2Client) -> None:
    client.sock.sendall((2**24 - 1).to_bytes(3) + bytes([0, 0]) + (1).to_bytes(4))
    client.wait_closed()
    assert client.gone == ErrorCodes.FRAME_SIZE_ERROR


def test_window_overflow_resets_its_stream(client: Http2Client) -> None:
    stream_id = client.begin(no_length())
    client.send_frames(WindowUpdateFrame(stream_id, 2**31 - 1))
    assert client.finish(stream_id).reset == ErrorCodes.FLOW_CONTROL_ERROR


def test_negative_window_pauses_the_response_until_it_is_raised(client: Http2Client) -> None:
    client.send_frames(SettingsFrame(0, {SettingCodes.INITIAL_WINDOW_SIZE: 5}))
    stream_id = client.begin(fields("GET", "/health"), end=True)
    client.wait(lambda: client.answers[stream_id].body)
    assert len(client.answers[stream_id].body) == 5
    client.send_frames(SettingsFrame(0, {SettingCodes.INITIAL_WINDOW_SIZE: 0}))
    another = client.begin(fields("GET", "/health"), end=True)
    client.wait(lambda: client.answers[another].status)
    client.send_frames(SettingsFrame(0, {SettingCodes.INITIAL_WINDOW_SIZE: 1000}))
    for answer in (client.finish(stream_id), client.finish(another)):
        assert answer.ended
        assert json.loads(answer.body) == {"status": "ok"}


def test_refused_request_gets_its_error_before_the_body_then_a_reset(client: Http2Client) -> None:
    for headers, status in (
        (no_length(("authorization", "Bearer wrong")), 401),
        (fields("POST", "/v1/chat/completions", ("content-length", "99999999")), 413),
    ):
        stream_id = client.begin(headers)
        answer = client.finish(stream_id)
        client.wait_reset(stream_id)
        assert (answer.status, answer.ended, answer.reset) == (status, True, ErrorCodes.NO_ERROR)
        assert error_of(answer.body)["message"]
        assert "connection" not in answer.headers


def test_413_once_the_body_exceeds_the_limit(client: Http2Client) -> None:
    stream_id = client.begin(fields())
    answer = client.answers[stream_id]
    for _ in range(11 * 64):
        client.wait(lambda: client.h2.local_flow_control_window(stream_id) >= 16384 or answer.ended)
        if answer.ended:
            break
        client.send(stream_id, b" " * 16384)
    answer = client.finish(stream_id)
    assert (answer.status, answer.ended) == (413, True)


def test_http2_without_tls_is_not_supported(recorded: Proxy) -> None:
    with RawClient(recorded.port) as raw:
        raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert raw.read_response()[0] == 400  # in HTTP/1.1
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
    with RawClient(recorded.port) as raw:
        raw.send(b"GET /health HTTP/1.1\r\nHost: x\r\n" + upgrade)
        assert raw.read_response("GET")[0] == 200  # and no 101
