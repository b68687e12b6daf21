"""How a response's head is changed, and what follows the handshake of a WebSocket; in memory."""

from concurrent.futures import Future

import pytest
from mitmproxy import http
from mitmproxy.connection import ConnectionState
from mitmproxy.proxy.layers.websocket import WebsocketStartHook

from addons.exchange.attempt import AttemptOutcome
from addons.messages.websocket_handshake import Handshake
from tests.addons.layers.stream.client import GET, Client
from tests.support.frames import CLOSE, KEY, TEXT, accept_of, frame
from tests.support.verification import sha256

UPGRADE = (
    b"GET /v1/realtime HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY.encode() + b"\r\n\r\n"
)
SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: "
    + accept_of(KEY).encode()
    + b"\r\n"
)


class Signer:
    """Notes what is signed and what is not."""

    def __init__(self) -> None:
        self.done: list[tuple[str, ...]] = []

    def sign_websocket(self, flow: http.HTTPFlow, client_sha256: str, server_sha256: str) -> Future[None] | None:
        self.done.append((client_sha256, server_sha256))
        return None

    def leave_websocket(self, flow: http.HTTPFlow, reason: str) -> None:
        self.done.append((reason,))


def test_upstream_alt_svc_receipt_and_cookie_headers_are_not_forwarded() -> None:
    client = Client()
    client.send(GET)
    server = client.wire.connect()
    own = b"Alt-Svc: h3\r\nX-Receipt-Id: rcpt-1\r\nSet-Cookie: a\r\nX-Kept: 1\r\n"
    client.wire.receive(server, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + own + b"\r\n")
    got = client.wire.to_client.lower()
    assert b"x-kept: 1" in got
    assert not any(name in got for name in (b"alt-svc", b"x-receipt-id", b"set-cookie"))
    assert client.exchanges.of(client.flows[0]).attempts[0].status == 200


def test_upstream_connection_close_does_not_close_the_client_connection() -> None:
    client = Client()
    client.send(GET)
    server = client.wire.connect()
    client.wire.receive(server, b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    assert b"connection: close" not in client.wire.to_client.lower()
    assert server.state is ConnectionState.CLOSED
    assert client.wire.client.state is ConnectionState.OPEN


def handshake(flow: http.HTTPFlow) -> None:
    """Forward the handshake, as the gate does."""
    read = Handshake.read(flow.request)
    assert read is not None
    read.write(flow.request)
    flow.request.stream = True


def test_websocket_after_the_handshake_is_relayed_and_signed_on_close() -> None:
    signer = Signer()
    client = Client(signer=signer)
    client.at("requestheaders", handshake)
    client.wire.hooks[WebsocketStartHook.name] = lambda flow: client.hooks.append("websocket_start")
    client.send(UPGRADE)
    server = client.wire.connect()
    client.wire.receive(server, SWITCHING + b"Alt-Svc: h3\r\n\r\n")
    assert client.wire.to_client.startswith(b"HTTP/1.1 101 ")
    assert b"alt-svc" not in client.wire.to_client.lower()
    assert client.hooks[-1] == "websocket_start"
    question, answer = frame(TEXT, b"question"), frame(TEXT, b"answer", mask=None)
    client.send(question)
    client.wire.receive(server, answer)
    assert client.wire.sent[server].endswith(question)
    assert client.wire.to_client.endswith(answer)
    client.send(frame(CLOSE))
    client.wire.receive(server, frame(CLOSE, mask=None))
    assert signer.done == [(sha256(b"question"), sha256(b"answer"))]
    assert client.wire.client.state is server.state is ConnectionState.CLOSED
    assert not client.flows[0].live


@pytest.mark.parametrize(
    "head",
    [
        SWITCHING + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
        SWITCHING.replace(b"websocket", b"h2c") + b"\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ],
    ids=["extension", "another protocol", "nothing"],
)
def test_websocket_handshake_answered_with_another_upgrade_gives_502(head: bytes) -> None:
    signer = Signer()
    client = Client(signer=signer)
    client.at("requestheaders", handshake)
    client.send(UPGRADE)
    server = client.wire.connect()
    client.wire.receive(server, head)
    assert client.wire.to_client.startswith(b"HTTP/1.1 502 ")
    assert server.state is ConnectionState.CLOSED
    [attempt] = client.exchanges.of(client.flows[0]).attempts
    assert attempt.outcome is AttemptOutcome.INVALID
    assert signer.done == []


def test_upstream_101_without_an_upgrade_request_gives_502() -> None:
    client = Client()
    client.send(GET)
    server = client.wire.connect()
    client.wire.receive(server, SWITCHING + b"\r\n" + frame(TEXT, b"not seen", mask=None))
    assert client.wire.to_client.startswith(b"HTTP/1.1 502 ")
    assert b"not seen" not in client.wire.to_client
    assert server.state is ConnectionState.CLOSED
