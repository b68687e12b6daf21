"""The opening handshake of WebSockets, on raw sockets, from both sides."""

from collections.abc import Callable

from tests.e2e.support.processes import TOKEN
from tests.e2e.support.raw_client import RawClient
from tests.e2e.support.scripted_upstream import Peer, Received
from tests.support.frames import KEY, accept_of

SWITCH = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
ACCEPT = f"Sec-WebSocket-Accept: {accept_of(KEY)}\r\n"
Script = Callable[[Peer], None]


def handshake(token: str | None = TOKEN, method: str = "GET", path: str = "/v1/realtime", **headers: str) -> bytes:
    """A client's opening handshake; a header given as "" is left out."""
    given = {
        "Host": "proxy",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": KEY,
        "Authorization": "" if token is None else f"Bearer {token}",
    } | {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{name}: {value}" for name, value in given.items() if value]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode()


def switching(then: Script, at_once: bytes = b"") -> Script:
    """A script that accepts the handshake and continues as a WebSocket; optionally with a frame in the same packet."""

    def script(peer: Peer) -> None:
        received = peer.read_request()
        assert received is not None
        assert received.header("upgrade") == "websocket"
        peer.send(f"{SWITCH}{ACCEPT}\r\n".encode() + at_once)
        then(peer)

    return script


def opened(client: RawClient, request: bytes | None = None) -> str:
    """Open a WebSocket; return its receipt id."""
    client.send(handshake() if request is None else request)
    head = client.read_until(b"\r\n\r\n").decode()
    assert head.startswith("HTTP/1.1 101 ")
    received = Received(head, b"")
    assert received.header("sec-websocket-accept") == accept_of(KEY)
    receipt = received.header("x-receipt-id")
    assert receipt is not None
    return receipt
