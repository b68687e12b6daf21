"""Bodies that are transformed on their way through the layers, in memory: what is sent, its framing, and its digests.

What is sent is read by h11, which refuses a body that is not as long as its head says.
"""

import hashlib
from unittest.mock import Mock

import h11
import pytest
from mitmproxy import http
from mitmproxy.connection import Client, ConnectionState

from addons.bodies.end_detector import EndDetector
from addons.bodies.json_reader import JsonReader
from addons.bodies.pipeline import BodyPipeline
from addons.bodies.signing_filter import SigningFilter
from addons.bodies.stream_formats import CHAT
from addons.layers.connections.fast_path import ChunkFastPath
from addons.layers.connections.fast_path_writer import Upstream
from addons.layers.connections.read_controller import ReadController
from addons.layers.http_layer import ApiHttpLayer
from addons.lifecycle.connection_handlers import ConnectionHandlers
from addons.upstream.keep_alive import KeepAliveLimit
from tests.addons.bodies.toy_transforms import (
    Change,
    ToyEventTransform,
    ToyJsonTransform,
    doubled,
    in_strings,
    swapped,
)
from tests.addons.wire import Wire, make_config, make_context

ASKED = b'{"messages":[{"content":"x z\\"yz"}]}'
JSON = b'{"id":"chat-1","choices":[{"text":"zx"}]}'
EVENT = b'data: {"id":"chat-1","choices":[{"text":"zx"}]}\n\n'
EVENTS = EVENT + b"data: [DONE]\n\n"
CHUNK = 9
CHUNKED = b"Transfer-Encoding: chunked\r\n"

changes = pytest.mark.parametrize("change", [swapped, doubled], ids=["of the same length", "of another length"])
framings = pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "with a length"])


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def framed(body: bytes, *, chunked: bool) -> tuple[bytes, bytes]:
    """The field that frames a body, and the body so framed."""
    if chunked:
        chunks = [body[at : at + CHUNK] for at in range(0, len(body), CHUNK)]
        return CHUNKED, b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    return b"Content-Length: %d\r\n" % len(body), body


def read(connection: h11.Connection, sent: bytes) -> tuple[http.Headers, bytes, bool]:
    """The head and the body of the first message that one side has sent, and whether the message is complete."""
    connection.receive_data(sent)
    headers, body = http.Headers(), b""
    while not isinstance(event := connection.next_event(), type):
        if isinstance(event, h11.Request | h11.Response):
            headers = http.Headers(event.headers.raw_items())
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return headers, body, True
    return headers, body, False


def client() -> h11.Connection:
    """A client that has sent a request."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="POST", target="/", headers=[("host", "x"), ("content-length", "0")]))
    connection.send(h11.EndOfMessage())
    return connection


class Reading(ReadController):
    """Notes which upstream has a fast path."""

    upstream: Upstream | None = None

    def __init__(self) -> None:
        super().__init__(ConnectionHandlers({}))

    def enable_fast_path(self, upstream: Upstream, client: Client) -> None:
        self.upstream = upstream


class Proxied:
    """A request and its response, both transformed.

    Attributes:
        requests: The pipelines of the request bodies.
        signed: The digests of each response that was signed, and what had gone to the client by then.
    """

    def __init__(self, change: Change | None, *, hold_limit: int = 0, streams_events: bool = False) -> None:
        self.requests: list[BodyPipeline] = []
        self.signed: list[tuple[tuple[str, str], bytes]] = []
        self._change = change
        self._hold_limit = hold_limit
        self._streams_events = streams_events
        self.reading = Reading()
        layer = ApiHttpLayer(make_context(), make_config(), KeepAliveLimit(10), Mock(), self.reading)
        self.wire = Wire(layer)
        self.wire.hooks = {"requestheaders": self._take_request, "responseheaders": self._take_response}

    def _take_request(self, flow: http.HTTPFlow) -> None:
        change = self._change
        transforms = [ToyJsonTransform(change, changes_length=change is doubled)] if change is not None else []
        pipeline = BodyPipeline(transforms, hold_limit=self._hold_limit)
        flow.request.stream = pipeline
        self.requests.append(pipeline)

    def _take_response(self, flow: http.HTTPFlow) -> None:
        assert flow.response is not None
        change, size = self._change, flow.response.headers.get("content-length")
        toy = ToyEventTransform if self._streams_events else ToyJsonTransform
        reader = EndDetector(CHAT) if self._streams_events else JsonReader()
        flow.response.stream = SigningFilter(
            reader,
            lambda body: self.signed.append((body.digests, self.wire.to_client)),
            int(size) if size is not None else None,
            transforms=[toy(change, changes_length=change is doubled)] if change is not None else [],
        )

    def ask(self, version: bytes = b"HTTP/1.1") -> None:
        """Send a request without a body, and connect."""
        self.wire.receive(
            self.wire.client, b"POST /v1/chat/completions " + version + b"\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
        )
        self.wire.connect()

    def respond(self, *pieces: bytes) -> None:
        """Have the upstream send something."""
        for piece in pieces:
            self.wire.receive(self.wire.connections[0], piece)


@changes
@framings
@pytest.mark.parametrize("hold_limit", [0, 10, 1000], ids=["passed on", "too large to be held", "held"])
def test_transformed_request_is_framed_by_its_new_body_and_has_both_digests(
    change: Change, hold_limit: int, chunked: bool
) -> None:
    expected = in_strings(change, ASKED)
    field, body = framed(ASKED, chunked=chunked)
    for at in range(len(body) + 1):
        proxied = Proxied(change, hold_limit=hold_limit)
        wire = proxied.wire
        wire.receive(wire.client, b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n" + field + b"\r\n" + body[:at])
        if wire.opening and at % 2:
            wire.connect()
        wire.receive(wire.client, body[at:])
        server = wire.connect() if wire.opening else wire.connections[0]
        headers, sent, ended = read(h11.Connection(h11.SERVER), wire.sent[server])
        assert (sent, ended) == (expected, True)
        assert proxied.requests[0].digests == (sha256(ASKED), sha256(expected))
        is_known = (change is swapped or hold_limit == 1000) and not chunked
        assert headers.get("content-length") == (str(len(expected)) if is_known else None)


@changes
@framings
@pytest.mark.parametrize("body", [JSON, EVENTS], ids=["JSON", "events"])
def test_transformed_response_is_framed_by_its_new_body_and_ends_after_signing(
    change: Change, chunked: bool, body: bytes
) -> None:
    expected = in_strings(change, body)
    held_back = b"}" if body is JSON else b"data: [DONE]\n\n"
    field, sent = framed(body, chunked=chunked)
    for at in range(len(sent) + 1):
        proxied = Proxied(change, streams_events=body is EVENTS)
        proxied.ask()
        proxied.respond(b"HTTP/1.1 200 OK\r\n" + field + b"\r\n" + sent[:at])
        proxied.respond(sent[at:])
        [(digests, left)] = proxied.signed
        assert digests == (sha256(body), sha256(expected))
        keeps_length = change is swapped and not chunked
        before_end = expected.removesuffix(held_back)
        # Where the client can count, the byte before what is held back may be held back with it.
        assert read(client(), left)[1:] in ([(before_end, False)] + [(before_end[:-1], False)] * keeps_length)
        headers, received, ended = read(client(), proxied.wire.to_client)
        assert (received, ended) == (expected, True)
        assert headers.get("content-length") == (str(len(body)) if keeps_length else None)
        assert proxied.wire.client.state is ConnectionState.OPEN


def test_transformed_response_to_http_1_0_ends_with_the_connection() -> None:
    proxied = Proxied(doubled)
    proxied.ask(b"HTTP/1.0")
    proxied.respond(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(JSON) + JSON)
    head, _, body = proxied.wire.to_client.partition(b"\r\n\r\n")
    assert body == in_strings(doubled, JSON)
    assert b"transfer-encoding" not in head.lower()
    assert b"content-length" not in head.lower()
    assert proxied.wire.client.state is ConnectionState.CLOSED


@pytest.mark.parametrize("change", [None, swapped], ids=["as it came", "transformed"])
def test_fast_path_is_enabled_only_for_an_untransformed_response(change: Change | None) -> None:
    proxied = Proxied(change, streams_events=True)
    proxied.ask()
    proxied.respond(b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\n%x\r\n%b\r\n" % (len(EVENT), EVENT))
    upstream = proxied.reading.upstream
    assert (upstream is not None and isinstance(upstream.fast_path, ChunkFastPath)) is (change is None)
