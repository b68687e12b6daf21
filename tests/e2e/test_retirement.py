"""What becomes of connections, and of a token that is revoked, when a worker is replaced; and of HTTP/2 at SIGTERM."""

import json
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from h2.errors import ErrorCodes

from addons.layers.http2.goaway import HIGHEST_STREAM
from tests.e2e.support.http2_client import Http2Client, fields
from tests.e2e.support.processes import PROGRAMS, TOKEN, Proxy, running_proxy
from tests.e2e.support.raw_client import Asker, RawClient, chat_body, chat_request, error_of
from tests.e2e.support.raw_websocket import ACCEPT, SWITCH, handshake, opened
from tests.e2e.support.scripted_upstream import (
    LAST_CHUNK,
    SSE_HEAD,
    Peer,
    ScriptedUpstream,
    chunk,
    events,
    json_response,
)
from tests.e2e.support.workers import children, is_alive, started, until
from tests.support.frames import CLOSE, TEXT, frame

REVOKED = "revoked-token"
CHAT = "/v1/chat/completions"
DONE = b"data: [DONE]\n\n"
NORMAL, POLICY_VIOLATION = b"\x03\xe8", b"\x03\xf0"
SAID, HEARD, BYE = frame(TEXT, b"hi"), frame(TEXT, b"hi", mask=None), frame(CLOSE, NORMAL, mask=None)


class Model:
    """Answers at once, but for streams, which stop behind their first event until `go` is set. Echoes WebSockets."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.asked: list[str] = []

    def __call__(self, peer: Peer) -> None:
        with suppress(ConnectionError):
            while (received := peer.read_request()) is not None:
                if received.header("upgrade"):
                    peer.send(f"{SWITCH}{ACCEPT}\r\n".encode())
                    return self._echo(peer)
                asked = json.loads(received.body or b"{}")
                name = asked.get("user", "")
                self.asked.append(name)
                if not asked.get("stream"):
                    peer.send(json_response(json.dumps({"id": name, "choices": []}).encode()))
                    continue
                first, *rest = events(name, "a", "b")
                peer.send(SSE_HEAD + chunk(first))
                assert self.go.wait(20)
                peer.send(b"".join(map(chunk, rest)) + LAST_CHUNK)
        return None

    @staticmethod
    def _echo(peer: Peer) -> None:
        while peer.read_exactly(len(SAID)) == SAID:
            peer.send(HEARD)
        peer.send(BYE)


@pytest.fixture
def model() -> Iterator[Model]:
    made = Model()
    yield made
    made.go.set()


class Replaced:
    """A proxy with one worker, whose TOKEN a test revokes."""

    def __init__(self, proxy: Proxy, settings: Path) -> None:
        self.proxy = proxy
        self._settings = settings
        [self.worker] = children(proxy.process.popen.pid)

    def revoke(self) -> None:
        """Take the token out of TOKEN, and have the worker replaced."""
        self._settings.write_text(f"TOKEN={TOKEN}\n")
        self.proxy.process.popen.send_signal(signal.SIGHUP)
        self.proxy.process.wait_for("retiring: stopping when")

    def ends(self) -> None:
        """Wait for the end of the worker that was replaced."""
        until(lambda: not is_alive(self.worker))


@pytest.fixture
def replaced(model: Model, tmp_path: Path) -> Iterator[Replaced]:
    settings = tmp_path / "settings.env"
    settings.write_text(f"TOKEN={TOKEN},{REVOKED}\n")
    with ScriptedUpstream(model) as upstream:
        with started(upstream.url, "--env-file", str(settings), workers=1, TOKEN="") as proxy:
            yield Replaced(proxy, settings)
        model.go.set()


def revoked(path: str = CHAT) -> list[tuple[str, str]]:
    return fields("POST", path, ("authorization", f"Bearer {REVOKED}"))


def test_retiring_http2_connection_refuses_new_streams_and_ends_after_its_last(
    replaced: Replaced, model: Model
) -> None:
    with Http2Client(replaced.proxy.port) as client:
        held = client.begin(revoked())
        client.send(held, chat_body(user="held", stream=True), end=True)
        client.wait(lambda: client.answers[held].pieces)
        replaced.revoke()
        client.wait(lambda: len(client.goaways) == 2)
        assert client.goaways == [HIGHEST_STREAM, held]
        assert client.gone == ErrorCodes.NO_ERROR
        late = client.begin(revoked())
        client.send(late, chat_body(user="late"), end=True)
        client.wait_reset(late)
        assert client.answers[late].reset == ErrorCodes.REFUSED_STREAM
        assert is_alive(replaced.worker), "for the stream that was there"
        model.go.set()
        assert client.finish(held).body.endswith(DONE)
        client.wait_closed()
    replaced.ends()
    assert model.asked == ["held"]


def test_http2_request_crossing_the_goaway_is_checked_against_the_new_tokens(replaced: Replaced, model: Model) -> None:
    with Http2Client(replaced.proxy.port) as client:
        assert client.request(revoked(), chat_body(user="early")).status == 200
        replaced.revoke()
        # It has not read the GOAWAY, and so has not answered the PING.
        crossing = [client.begin(headers) for headers in (revoked(), fields())]
        for stream_id in crossing:
            client.send(stream_id, chat_body(user="crossing"), end=True)
        refused, served = (client.finish(stream_id) for stream_id in crossing)
        assert refused.status == 401
        assert served.status == 200
        client.wait_closed()
        assert client.goaways == [HIGHEST_STREAM, crossing[1]]
    replaced.ends()


def test_retiring_idle_http2_connection_closes_at_once(replaced: Replaced) -> None:
    with Http2Client(replaced.proxy.port) as client:
        answer = client.request(fields("GET", "/health"))
        assert answer.status == 200
        replaced.revoke()
        client.wait_closed()
        assert client.goaways == [HIGHEST_STREAM, 1]
    replaced.ends()


def test_pipelined_request_with_a_revoked_token_gets_401_and_a_close(replaced: Replaced, model: Model) -> None:
    with RawClient(replaced.proxy.port) as client:
        client.send(chat_request(chat_body(user="held", stream=True), REVOKED))
        client.read_until(b'"content":"a"')
        client.send(b"".join(chat_request(chat_body(user=f"late-{n}"), REVOKED) for n in range(3)))
        replaced.revoke()
        model.go.set()
        assert DONE in client.read_until(b"0\r\n\r\n")
        head, _, body = client.read_to_end().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 401 ")
        assert b"\r\nconnection: close" in head.lower()
        assert error_of(body)["type"] == "unauthorized", "and nothing behind it"
    replaced.ends()
    assert model.asked == ["held"]


def test_keep_alive_request_after_revocation_uses_the_new_tokens_then_closes(
    replaced: Replaced,
) -> None:
    with RawClient(replaced.proxy.port) as first, RawClient(replaced.proxy.port) as second:
        for client in (first, second):
            client.send(chat_request(chat_body(user="early"), REVOKED))
            assert client.read_response()[0] == 200
        replaced.revoke()
        for client, token, expected in ((first, REVOKED, 401), (second, TOKEN, 200)):
            client.send(chat_request(chat_body(user="late"), token))
            status, headers, _ = client.read_response()
            assert (status, headers["connection"]) == (expected, "close")
            assert client.read_to_end() == b""
    replaced.ends()


def test_websocket_of_a_revoked_token_is_closed_and_others_continue(replaced: Replaced) -> None:
    port = replaced.proxy.port
    with RawClient(port) as others, RawClient(port) as theirs, RawClient(port) as idle:
        receipt, unsigned = opened(others, handshake(TOKEN)), opened(theirs, handshake(REVOKED))
        idle.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle.read_response("GET")[0] == 200
        replaced.revoke()
        assert theirs.read_to_end() == frame(CLOSE, POLICY_VIOLATION, mask=None)
        idle.send(handshake(REVOKED))
        status, headers, _ = idle.read_response("GET")
        assert (status, headers["connection"]) == (401, "close")
        assert idle.read_to_end() == b""
        others.send(SAID)
        others.read_until(HEARD)
        others.send(frame(CLOSE, NORMAL))
        others.read_until(BYE)
    replaced.ends()
    with Asker(port) as asker:
        assert [asker.signature(name)[0] for name in (receipt, unsigned)] == [200, 404]


def test_side_port_keep_alive_request_is_checked_against_the_new_tokens(replaced: Replaced) -> None:
    question = f"GET /v1/signature/none HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {REVOKED}\r\n\r\n".encode()
    with RawClient(replaced.proxy.side_port) as client:
        client.send(question)
        assert client.read_response("GET")[0] == 404
        replaced.revoke()
        client.send(question)
        assert client.read_response("GET")[0] == 401


@pytest.mark.parametrize("program", PROGRAMS)
def test_sigterm_sends_http2_clients_a_goaway_and_lets_streams_finish(model: Model, program: str) -> None:
    with ScriptedUpstream(model) as upstream:
        with running_proxy(upstream.url, program=program, DRAIN_SECONDS="20") as proxy:
            with Http2Client(proxy.port) as busy, Http2Client(proxy.port) as idle:
                assert idle.request(fields("GET", "/health")).status == 200
                held = busy.begin(fields())
                busy.send(held, chat_body(user="held", stream=True), end=True)
                busy.wait(lambda: busy.answers[held].pieces)
                proxy.process.popen.send_signal(signal.SIGTERM)
                idle.wait_closed()
                assert idle.goaways == [HIGHEST_STREAM, 1]
                busy.wait(lambda: len(busy.goaways) == 2)
                late = busy.begin(fields())
                busy.wait_reset(late)
                assert busy.answers[late].reset == ErrorCodes.REFUSED_STREAM
                model.go.set()
                assert busy.finish(held).body.endswith(DONE)
                with Asker(proxy.side_port) as asker:
                    assert asker.signature("held")[0] == 200
                busy.wait_closed()
            assert proxy.process.wait(10) == 0


def test_sigterm_does_not_wait_for_an_idle_http2_client(model: Model) -> None:
    with ScriptedUpstream(model) as upstream, running_proxy(upstream.url, DRAIN_SECONDS="600") as proxy:
        with Http2Client(proxy.port) as silent:
            assert silent.request(fields("GET", "/health")).status == 200
            proxy.process.popen.send_signal(signal.SIGTERM)
            assert proxy.process.wait(10) == 0  # it does not even read the GOAWAY
            with suppress(socket.timeout):
                silent.wait_closed()
            assert silent.goaways[0] == HIGHEST_STREAM
