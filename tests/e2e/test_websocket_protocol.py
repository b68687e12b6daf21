"""WebSockets frame by frame: handshakes and endings that no library would make."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.e2e.support.processes import TOKEN, Proxy, running_proxy
from tests.e2e.support.raw_client import Asker, RawClient, error_of, signature_status
from tests.e2e.support.raw_websocket import ACCEPT, SWITCH, Script, handshake, opened, switching
from tests.e2e.support.scripted_upstream import Peer, ScriptedUpstream, json_response
from tests.support import verification
from tests.support.frames import BINARY, CLOSE, KEY, PING, TEXT, frame
from tests.support.limits import limit

BYE = b"\x03\xe8bye"
CLIENT_CLOSE, SERVER_CLOSE = frame(CLOSE, BYE), frame(CLOSE, BYE, mask=None)
FAILED = b"\x03\xea"
"""The payload of a Close frame that says 1002, protocol error."""


class Stage:
    """One proxy before an upstream that does whatever the test at hand has said."""

    def __init__(self) -> None:
        self.script: Script = Peer.wait_closed
        self.proxy: Proxy
        self.upstream: ScriptedUpstream
        self._performing: list[threading.Thread] = []

    def perform(self, peer: Peer) -> None:
        self._performing.append(threading.current_thread())
        self.script(peer)

    def clear(self) -> None:
        """Wait until all connections have ended; see that nothing went wrong on them."""
        for thread in self._performing:
            thread.join(limit())
        self._performing.clear()
        self.upstream.requests.queue.clear()
        failures, self.upstream.failures = self.upstream.failures, []
        assert failures == []


@pytest.fixture(scope="module")
def theatre() -> Iterator[Stage]:
    stage = Stage()
    with ScriptedUpstream(stage.perform) as stage.upstream:
        with running_proxy(stage.upstream.url) as stage.proxy:
            yield stage


@pytest.fixture
def stage(theatre: Stage) -> Iterator[Stage]:
    yield theatre
    theatre.clear()


def check_signed(port: int, receipt: str, sent: bytes, received: bytes) -> None:
    with Asker(port) as asker:
        status, answer = asker.signature(receipt)
    assert status == 200
    verification.check(answer, sent, received)


# Handshakes.


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec_WebSocket_Version": "8"}, 426),
        ({"Sec_WebSocket_Version": ""}, 426),
        ({"Sec_WebSocket_Key": ""}, 400),
        ({"Sec_WebSocket_Key": "c2hvcnQ="}, 400),
        ({"Sec_WebSocket_Key": "!" * 24}, 400),
        ({"Content_Length": "3"}, 400),
        ({"Transfer_Encoding": "chunked"}, 400),
        ({"Sec_WebSocket_Protocol": "real time"}, 400),
    ],
)
def test_a_malformed_handshake_is_refused(stage: Stage, headers: dict[str, str], status: int) -> None:
    with RawClient(stage.proxy.port) as client:
        client.send(handshake(**headers))
        got, answer, body = client.read_response("GET")
    assert got == status
    assert error_of(body)["type"] == "bad_request"
    if status == 426:
        assert answer["sec-websocket-version"] == "13"
        assert answer["upgrade"] == "websocket"
    assert stage.upstream.requests.empty()


def test_handshake_is_forwarded_without_extensions_cookies_or_credentials(stage: Stage) -> None:
    stage.script = switching(Peer.wait_closed)
    request = handshake(
        Connection="keep-alive, upgrade",
        Upgrade="WebSocket",
        Sec_WebSocket_Extensions="permessage-deflate",
        Sec_WebSocket_Other="x",
        Cookie="secret=1",
    )
    with RawClient(stage.proxy.port) as client:
        opened(client, request)
    received = stage.upstream.requests.get(timeout=limit())
    assert received.header("connection") == "Upgrade"
    assert received.header("upgrade") == "websocket"
    assert received.header("sec-websocket-version") == "13"
    assert received.header("sec-websocket-key") == KEY
    for gone in (
        "sec-websocket-extensions",
        "sec-websocket-other",
        "sec-websocket-protocol",
        "cookie",
        "authorization",
    ):
        assert received.header(gone) is None


@pytest.mark.parametrize(
    ("request_head", "token_needed"),
    [
        (handshake(method="POST", path="/v1/other", Content_Length="0"), True),
        (handshake(path="/v1/other", Connection="keep-alive"), True),
        (handshake(path="/v1/other", Upgrade="h2c"), True),
        (handshake(path="/v1/other").replace(b"HTTP/1.1", b"HTTP/1.0"), True),
        (handshake(None, path="/v1/models"), False),
        (handshake(None, path="/v1/models", Sec_WebSocket_Protocol="openai-insecure-api-key.wrong"), False),
    ],
    ids=["POST", "no Connection: upgrade", "h2c", "HTTP/1.0", "no token on an open route", "a wrong one"],
)
def test_incomplete_handshake_is_forwarded_as_an_ordinary_request(
    stage: Stage, request_head: bytes, token_needed: bool
) -> None:
    def script(peer: Peer) -> None:
        if peer.read_request() is not None:
            peer.send(json_response(b"{}"))

    stage.script = script
    with RawClient(stage.proxy.port) as client:
        client.send(request_head)
        assert client.read_response()[0] == 200
    received = stage.upstream.requests.get(timeout=limit())
    assert "upgrade" not in received.head.lower()
    assert "sec-websocket" not in received.head.lower()
    assert TOKEN not in received.head


@pytest.mark.parametrize("path", ["/", "/version", "/v1/signature/x"])
def test_handshake_for_a_proof_page_gets_the_page(stage: Stage, path: str) -> None:
    with RawClient(stage.proxy.port) as client:
        client.send(handshake(path=path))
        assert client.read_response("GET")[0] == (404 if "signature" in path else 200)
    assert stage.upstream.requests.empty()


def test_upstream_refusal_of_a_handshake_is_forwarded_without_a_receipt(stage: Stage) -> None:
    def script(peer: Peer) -> None:
        assert peer.read_request()
        peer.send(json_response(b'{"message":"no such model","type":"forbidden"}', "403 Forbidden"))
        peer.wait_closed()

    stage.script = script
    with RawClient(stage.proxy.port) as client:
        client.send(handshake())
        status, headers, body = client.read_response("GET")
    assert (status, error_of(body)["message"]) == (403, "no such model")
    assert "x-receipt-id" not in headers


@pytest.mark.parametrize(
    "answer",
    [
        SWITCH,
        SWITCH + "Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n",
        SWITCH + ACCEPT + ACCEPT,
        SWITCH + ACCEPT + "Sec-WebSocket-Extensions: permessage-deflate\r\n",
        SWITCH + ACCEPT + "Sec-WebSocket-Protocol: not-offered\r\n",
        SWITCH + ACCEPT + "Transfer-Encoding: chunked\r\n",
        SWITCH + ACCEPT + "Content-Length: 10\r\n",
        SWITCH.replace("websocket", "h2c") + ACCEPT,
        SWITCH.replace("Connection: Upgrade\r\n", "") + ACCEPT,
    ],
    ids=[
        "no accept",
        "wrong accept",
        "two accepts",
        "extension",
        "subprotocol",
        "chunked",
        "length",
        "h2c",
        "no connection",
    ],
)
def test_invalid_upgrade_response_of_the_upstream_gives_502(stage: Stage, answer: str) -> None:
    closed = threading.Event()

    def script(peer: Peer) -> None:
        assert peer.read_request()
        peer.send(f"{answer}\r\n".encode() + frame(TEXT, b"smuggled", mask=None))
        peer.wait_closed()
        closed.set()

    stage.script = script
    with RawClient(stage.proxy.port) as client:
        client.send(handshake(Sec_WebSocket_Protocol="realtime"))
        status, _, body = client.read_response("GET")
        assert (status, error_of(body)["type"]) == (502, "bad_gateway")
        assert client.read_to_end() == b""
    assert closed.wait(limit())


def test_unrequested_upgrade_by_the_upstream_gives_502(stage: Stage) -> None:
    def script(peer: Peer) -> None:
        assert peer.read_request()
        peer.send(f"{SWITCH}{ACCEPT}\r\n".encode() + frame(TEXT, b"smuggled", mask=None))
        peer.wait_closed()

    stage.script = script
    with RawClient(stage.proxy.port) as client:
        client.send(handshake(None, path="/v1/models"))
        status, _, body = client.read_response("GET")
        assert (status, error_of(body)["type"]) == (502, "bad_gateway")
        assert client.read_to_end() == b""


# Frames.


def test_frames_are_forwarded_unchanged_and_at_once_however_they_are_split(stage: Stage) -> None:
    """Either side sends a piece only when the one before has arrived."""
    theirs = frame(TEXT, b"from ", fin=False, mask=None) + frame(PING, b"p", mask=None)
    theirs += frame(0, b"the server", mask=None) + frame(BINARY, b"\r\n" * 100, mask=None)
    ours = frame(BINARY, b"from the client" * 20) + frame(TEXT, b"")
    pieces = [(ours[:100], theirs[:5]), (ours[100:], theirs[5:40]), (b"", theirs[40:])]

    def converse(peer: Peer) -> None:
        for mine, yours in pieces:
            assert peer.read_exactly(len(mine)) == mine
            peer.send(yours)
        assert peer.read_exactly(len(CLIENT_CLOSE)) == CLIENT_CLOSE
        peer.send(SERVER_CLOSE)
        peer.wait_closed()

    stage.script = switching(converse)
    with RawClient(stage.proxy.port) as client:
        receipt = opened(client)
        for mine, yours in pieces:
            client.send(mine)
            assert client.read_until(yours) == yours
        client.send(CLIENT_CLOSE)
        assert client.read_to_end() == SERVER_CLOSE
    check_signed(stage.proxy.port, receipt, b"from the client" * 20, b"from the server" + b"\r\n" * 100)


def test_frames_sent_with_the_handshake_are_not_lost(stage: Stage) -> None:
    def converse(peer: Peer) -> None:
        assert peer.read_exactly(len(CLIENT_CLOSE) + 9) == frame(TEXT, b"hey") + CLIENT_CLOSE
        peer.send(SERVER_CLOSE)

    greeting = frame(TEXT, b"welcome", mask=None)
    stage.script = switching(converse, greeting)
    with RawClient(stage.proxy.port) as client:
        receipt = opened(client, handshake() + frame(TEXT, b"hey") + CLIENT_CLOSE)
        assert client.read_to_end() == greeting + SERVER_CLOSE
    check_signed(stage.proxy.port, receipt, b"hey", b"welcome")


# Endings.


@pytest.mark.parametrize("side", ["port", "side_port"])
def test_signature_is_available_when_the_final_close_frame_arrives(stage: Stage, side: str) -> None:
    def converse(peer: Peer) -> None:
        peer.read_exactly(len(CLIENT_CLOSE))
        peer.send(SERVER_CLOSE)
        peer.wait_closed()

    stage.script = switching(converse)
    with Asker(getattr(stage.proxy, side)) as asker:
        for _ in range(30):
            with RawClient(stage.proxy.port) as client:
                receipt = opened(client)
                client.send(CLIENT_CLOSE)
                client.read_until(SERVER_CLOSE)
                assert asker.signature(receipt)[0] == 200


def test_signature_after_a_server_close_is_available_when_the_connection_ends(stage: Stage) -> None:
    def converse(peer: Peer) -> None:
        peer.send(frame(TEXT, b"a", mask=None) + SERVER_CLOSE)
        assert peer.read_exactly(len(CLIENT_CLOSE)) == CLIENT_CLOSE
        peer.wait_closed()

    stage.script = switching(converse)
    with Asker(stage.proxy.port) as asker:
        for _ in range(30):
            with RawClient(stage.proxy.port) as client:
                receipt = opened(client)
                client.read_until(SERVER_CLOSE)
                assert asker.signature(receipt)[0] == 404, "the client may still have something to say"
                client.send(CLIENT_CLOSE)
                assert client.read_to_end() == b""
                assert asker.signature(receipt)[0] == 200


def test_messages_between_the_two_close_frames_are_signed(stage: Stage) -> None:
    answer = frame(TEXT, b"still here", mask=None)

    def converse(peer: Peer) -> None:
        peer.read_exactly(len(CLIENT_CLOSE))
        peer.send(answer + SERVER_CLOSE + frame(TEXT, b"ignored", mask=None))
        peer.wait_closed()

    stage.script = switching(converse)
    with RawClient(stage.proxy.port) as client:
        receipt = opened(client)
        client.send(CLIENT_CLOSE + frame(TEXT, b"ignored, too"))
        assert client.read_to_end() == answer + SERVER_CLOSE
    check_signed(stage.proxy.port, receipt, b"", b"still here")


def test_half_closed_client_still_receives_the_remaining_frames(stage: Stage) -> None:
    """Its half of the connection is closed, the other is not."""
    half_closed = threading.Event()

    def converse(peer: Peer) -> None:
        peer.read_exactly(len(CLIENT_CLOSE))
        assert half_closed.wait(limit())
        peer.send(frame(TEXT, b"late", mask=None))
        peer.send(SERVER_CLOSE)
        peer.wait_closed()

    stage.script = switching(converse)
    with RawClient(stage.proxy.port) as client:
        receipt = opened(client)
        client.send(CLIENT_CLOSE)
        client.sock.shutdown(socket.SHUT_WR)
        half_closed.set()
        assert client.read_to_end() == frame(TEXT, b"late", mask=None) + SERVER_CLOSE
    check_signed(stage.proxy.port, receipt, b"", b"late")


def _ends(peer: Peer) -> None:
    peer.close()


def _resets(peer: Peer) -> None:
    peer.reset()


def _ends_after_the_clients_close(peer: Peer) -> None:
    peer.read_exactly(len(CLIENT_CLOSE))
    peer.close()


def _ends_within_its_close(peer: Peer) -> None:
    peer.read_exactly(len(CLIENT_CLOSE))
    peer.send(SERVER_CLOSE[:-1])
    peer.close()


@pytest.mark.parametrize("end", [_ends, _resets, _ends_after_the_clients_close, _ends_within_its_close])
def test_upstream_disconnect_without_a_close_frame_leaves_no_signature(stage: Stage, end: Script) -> None:
    def converse(peer: Peer) -> None:
        peer.send(frame(TEXT, b"a", mask=None))
        end(peer)

    stage.script = switching(converse)
    with RawClient(stage.proxy.port) as client:
        receipt = opened(client)
        client.read_until(frame(TEXT, b"a", mask=None))
        with suppress(OSError):
            client.send(CLIENT_CLOSE)
        assert client.read_to_end() == b"", "there is no proper end"
    assert signature_status(stage.proxy, receipt) == 404


def test_client_disconnect_after_a_server_close_frame_leaves_no_signature(stage: Stage) -> None:
    closed = threading.Event()

    def converse(peer: Peer) -> None:
        peer.send(SERVER_CLOSE)
        peer.wait_closed()
        closed.set()

    stage.script = switching(converse)
    with RawClient(stage.proxy.port) as client:
        receipt = opened(client)
        client.read_until(SERVER_CLOSE)
    assert closed.wait(limit()), "the upstream is let go"
    assert signature_status(stage.proxy, receipt) == 404


@pytest.mark.parametrize(
    "bad",
    [
        frame(TEXT, b"unmasked", mask=None),
        b"\xc1" + frame(TEXT, b"rsv")[1:],
        frame(3, b"reserved"),
        frame(CLOSE, b"\x03\xed"),
    ],
    ids=["unmasked", "RSV1", "reserved opcode", "close code 1005"],
)
def test_invalid_client_frame_closes_both_sides_with_1002(stage: Stage, bad: bytes) -> None:
    heard: list[bytes] = []

    def converse(peer: Peer) -> None:
        heard.append(peer.read_exactly(len(frame(TEXT, b"a"))))
        end = peer.read_exactly(8)
        heard.append(end[:2] + bytes(byte ^ end[2 + at % 4] for at, byte in enumerate(end[6:])))
        with pytest.raises(AssertionError):  # that is all that comes
            peer.read_exactly(1)

    stage.script = switching(converse)
    with RawClient(stage.proxy.port) as client:
        receipt = opened(client)
        client.send(frame(TEXT, b"a") + bad + frame(TEXT, b"b"))
        assert client.read_to_end() == frame(CLOSE, FAILED, mask=None)
    assert signature_status(stage.proxy, receipt) == 404
    stage.proxy.process.wait_for("not signed: a WebSocket frame was not valid")
    assert heard == [frame(TEXT, b"a"), b"\x88\x82" + FAILED]


def test_invalid_server_frame_closes_both_sides_with_1002(stage: Stage) -> None:
    rest: list[bytes] = []

    def converse(peer: Peer) -> None:
        peer.send(frame(TEXT, b"a", mask=None) + frame(TEXT, b"masked") + frame(TEXT, b"b", mask=None))
        rest.append(peer.read_exactly(8)[:2])

    stage.script = switching(converse)
    with RawClient(stage.proxy.port) as client:
        receipt = opened(client)
        assert client.read_to_end() == frame(TEXT, b"a", mask=None) + frame(CLOSE, FAILED, mask=None)
    assert signature_status(stage.proxy, receipt) == 404
    assert rest == [b"\x88\x82"]


@pytest.mark.parametrize("code", [999, 1005, 1006, 1015, 1016])
def test_forbidden_server_close_code_becomes_1002_and_is_unsigned(stage: Stage, code: int) -> None:
    """The closing handshake would be complete with it: the client's Close frame has come before."""

    def converse(peer: Peer) -> None:
        assert peer.read_exactly(len(CLIENT_CLOSE)) == CLIENT_CLOSE
        peer.send(frame(CLOSE, code.to_bytes(2), mask=None))
        peer.wait_closed()

    stage.script = switching(converse)
    with RawClient(stage.proxy.port) as client:
        receipt = opened(client)
        client.send(CLIENT_CLOSE)
        assert client.read_to_end() == frame(CLOSE, FAILED, mask=None)
    assert signature_status(stage.proxy, receipt) == 404


def test_close_frame_is_not_inserted_into_an_unfinished_frame(stage: Stage) -> None:
    """The client would take it for the rest of the message."""
    half = frame(BINARY, b"x" * 1000, mask=None)[:500]

    def converse(peer: Peer) -> None:
        peer.send(half)
        peer.wait_closed()

    stage.script = switching(converse)
    with RawClient(stage.proxy.port) as client:
        opened(client)
        client.read_until(half)
        client.send(frame(3, b"reserved"))
        assert client.read_to_end() == b""
