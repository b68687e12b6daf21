"""Clients that are slow, silent, many, or never done: what they can hold of the proxy, and for how long."""

import contextlib
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Iterator

import pytest

from scripts.process_stats import process_stats
from tests.e2e.support.processes import TOKEN, Proxy, running_proxy
from tests.e2e.support.raw_client import RawClient, chat_body, chat_request, error_of
from tests.e2e.support.scripted_upstream import (
    LAST_CHUNK,
    SSE_HEAD,
    Peer,
    ScriptedUpstream,
    chunk,
    events,
    json_response,
)
from tests.support.limits import limit

ANSWER = b'{"id":"chatcmpl-1"}'
QUICK = {f"CLIENT_{what}_TIMEOUT_SECS": "0.4" for what in ("HEADER", "BODY", "IDLE")}
CHUNKED = chat_request(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    """An upstream that takes its time for everything, which is longer than any client may take."""

    def script(peer: Peer) -> None:
        with contextlib.suppress(AssertionError):
            while (received := peer.read_request()) is not None:
                time.sleep(0.7)  # this is what is tested
                if b'"stream"' not in received.body:
                    peer.send(json_response(ANSWER))
                    continue
                first, last = events("chatcmpl-2", "a")
                peer.send(SSE_HEAD + chunk(first))
                time.sleep(0.7)
                peer.send(chunk(last) + LAST_CHUNK)

    with ScriptedUpstream(script) as running:
        yield running


@pytest.fixture(scope="module")
def quick(upstream: ScriptedUpstream) -> Iterator[Proxy]:
    with running_proxy(upstream.url, **QUICK) as proxy:
        yield proxy


def client_hello() -> bytes:
    context = ssl.create_default_context()
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="x").do_handshake()
    return outgoing.read()


@pytest.mark.parametrize(
    "said",
    [b"", b"\x16", client_hello()[:100], b"\r\n"],
    ids=["nothing", "a byte", "half a ClientHello", "an empty line"],
)
def test_client_that_sends_no_request_is_disconnected_without_a_response(quick: Proxy, said: bytes) -> None:
    with RawClient(quick.port) as client:
        client.send(said)
        assert client.read_to_end() == b""


def test_client_silent_after_the_tls_handshake_is_disconnected(quick: Proxy) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
    with RawClient(quick.port) as client, context.wrap_socket(client.sock) as tls:
        assert tls.recv(1) == b""


@pytest.mark.parametrize("size", [16 * 1024 - 9, 2**24 - 1])
def test_oversized_client_hello_closes_the_connection(proxy: Proxy, size: int) -> None:
    record = b"\x16\x03\x01\x40\x00" + (b"\x01" + size.to_bytes(3) if size < 2**20 else b"\x01\xff\xff\xff")
    with RawClient(proxy.port) as client:
        with contextlib.suppress(ConnectionError):
            client.send(record + b"\0" * (0x4000 - 4) + b"\x16\x03\x01\x40\x00" + b"\0" * 0x4000)
        client.read_to_end()


def check_408(raw: bytes) -> None:
    head, _, body = raw.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"\r\nconnection: close" in head
    assert error_of(body)["type"] == "bad_request"


def test_incomplete_request_head_sent_slowly_gets_408(quick: Proxy) -> None:
    """The time begins with its first byte, and no further byte prolongs it."""
    with RawClient(quick.port) as client:
        client.send(b"GET /health HTTP/1.1\r\n")
        client.sock.settimeout(0.1)
        raw = b""
        for _ in range(100):
            with contextlib.suppress(OSError):
                client.send(b"X: y\r\n")
            with contextlib.suppress(TimeoutError):
                if raw := client.sock.recv(65536):
                    break
        check_408(raw)


def test_incomplete_request_head_after_a_response_gets_408(quick: Proxy) -> None:
    with RawClient(quick.port) as client:
        client.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.read_response("GET")[0] == 200
        client.send(b"GET ")
        check_408(client.read_to_end())


@pytest.mark.parametrize("begun", [chat_request(chat_body())[:-1], CHUNKED, CHUNKED + b"5\r\nhel"])
def test_stalled_buffered_body_gets_408_and_is_not_forwarded(
    quick: Proxy, upstream: ScriptedUpstream, begun: bytes
) -> None:
    with RawClient(quick.port) as client:
        client.send(begun)
        check_408(client.read_to_end())
    assert upstream.requests.empty()


def test_stalled_streamed_body_gets_408_and_closes_the_upstream_connection() -> None:
    gone = threading.Event()

    def script(peer: Peer) -> None:
        with pytest.raises(AssertionError):
            peer.read_request()
        gone.set()

    with ScriptedUpstream(script) as upstream, running_proxy(upstream.url, **QUICK) as proxy:
        with RawClient(proxy.port) as client:
            client.send(chat_request(b"hello", path="/v1/files")[:-1])
            check_408(client.read_to_end())
        assert gone.wait(limit())


def test_idle_keep_alive_connection_is_closed_without_a_response(quick: Proxy) -> None:
    with RawClient(quick.port) as client:
        for _ in range(2):
            client.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.read_response("GET")[0] == 200
        assert client.read_to_end() == b""


def test_client_timeouts_do_not_run_while_a_response_is_in_progress(quick: Proxy, upstream: ScriptedUpstream) -> None:
    with RawClient(quick.port) as client:
        client.send(chat_request(chat_body()))
        assert client.read_response()[2] == ANSWER
        client.send(chat_request(chat_body(stream=True)))
        assert client.read_response()[2].endswith(b"[DONE]\n\n")
    while not upstream.requests.empty():
        upstream.requests.get()


def test_slow_body_making_progress_is_accepted(quick: Proxy) -> None:
    body = b" " * 10_000
    with RawClient(quick.port) as client:
        client.send(chat_request(body).replace(body, b""))
        for at in range(0, len(body), 1000):
            client.send(body[at : at + 1000])
            time.sleep(0.08)  # twice the timeout, in all
        assert client.read_response()[0] == 400  # it has come, and is no JSON


def test_connections_over_the_limit_are_closed_at_once_and_logged_once(fake_vllm: str) -> None:
    with running_proxy(fake_vllm, "-v", MAX_CONNECTIONS="3") as proxy:
        health = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(RawClient(proxy.port)) for _ in range(3)]
            for client in clients:
                client.send(health)
                assert client.read_response("GET")[0] == 200
            for _ in range(50):
                with RawClient(proxy.port) as one_more:
                    assert one_more.read_to_end() == b""
            clients[0].send(health)
            assert clients[0].read_response("GET")[0] == 200
        proxy.process.wait_for("(?s)(client disconnect.*){3}")
        with RawClient(proxy.port) as client:
            client.send(health)
            assert client.read_response("GET")[0] == 200
        proxy.process.wait_for("(?s)(client connect.*){4}")
        said = proxy.process.output
        assert said.count("connections refused: MAX_CONNECTIONS 3 are open") == 1
        assert said.count("client connect") == 4, "those that were taken"


@pytest.mark.parametrize("endless", [b"X: " + b"a" * 1000, b"a: b\r\n" * 100, b"\0" * 1000, b"\r\n"])
def test_endless_request_head_is_refused_with_400_or_431(proxy: Proxy, endless: bytes) -> None:
    with RawClient(proxy.port) as client:
        client.send(b"GET /health HTTP/1.1\r\nHost: x\r\n" if endless != b"\r\n" else b"")
        with contextlib.suppress(ConnectionError):
            for _ in range(300_000 // len(endless)):
                client.send(endless)
        status, _, body = client.read_response()
        assert status in (400, 431)
        assert error_of(body)["type"] == "bad_request"


def test_excess_pipelined_requests_are_dropped_and_the_first_response_arrives(upstream: ScriptedUpstream) -> None:
    def respond(peer: Peer) -> None:
        assert peer.read_request()
        sent.wait(limit())
        peer.send(json_response(ANSWER))
        assert peer.read_request() is None

    sent = threading.Event()
    with ScriptedUpstream(respond) as slow, running_proxy(slow.url) as proxy, RawClient(proxy.port) as client:
        client.send(chat_request(chat_body()))
        slow.requests.get(timeout=limit())
        before = peak_memory(proxy)
        for _ in range(100):
            client.send(chat_request(b" " * 100_000))
        sent.set()
        assert client.read_until(ANSWER).startswith(b"HTTP/1.1 200 ")
        assert client.read_to_end() == b"", "only the answer, and the end"
        assert peak_memory(proxy) - before < 5_000_000


def test_pipelining_client_that_does_not_read_is_disconnected(fake_vllm: str) -> None:
    """A question of 40 bytes has an answer of 9,000, and nobody needs a token for it."""
    how_many = 2900
    with running_proxy(fake_vllm, "-v", MAX_CONNECTIONS="1") as proxy, socket.socket() as sock:
        before = process_stats(proxy.process.popen.pid).sockets
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(limit())
        sock.connect(("127.0.0.1", proxy.port))
        sock.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n" * how_many)
        proxy.process.wait_for("client disconnect", 10)
        assert 1 < proxy.process.output.count("GET /openapi.json 200 ") < how_many
        with RawClient(proxy.port) as client:
            client.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.read_response("GET")[0] == 200
            assert process_stats(proxy.process.popen.pid).sockets == before + 1, "what waits to be read has made room"


def peak_memory(proxy: Proxy) -> int:
    """The most resident memory that the proxy has had, in bytes."""
    with open(f"/proc/{proxy.process.popen.pid}/status") as status:  # noqa: PTH123  # it is short
        [line] = [line for line in status if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


PUSHED = 200_000_000


def push(proxy: Proxy, requests: list[bytes]) -> list[bytes]:
    """Push a body behind each request at once, whatever is answered, until nothing more is taken."""
    waste = b"x" * 250_000
    answers: list[bytes] = []
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as stack:
        for request in requests:
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", proxy.port), timeout=limit()))
            sock.sendall(request)
            sock.setblocking(False)
            selector.register(sock, selectors.EVENT_WRITE, [PUSHED])
        while selector.get_map():
            ready = selector.select(limit())
            assert ready, "neither taken nor closed"
            for key, _ in ready:
                try:
                    key.data[0] -= key.fileobj.send(waste)  # type: ignore[union-attr]
                except OSError:
                    key.data[0] = -1
                if key.data[0] <= 0:
                    assert key.data[0] == -1, "all of it was read"
                    selector.unregister(key.fileobj)
                    with contextlib.suppress(OSError):
                        answers.append(key.fileobj.recv(65536))  # type: ignore[union-attr]
    return answers


def test_fifty_uploads_of_200_mb_without_a_token_get_401_in_bounded_memory(proxy: Proxy) -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
    length = b"Content-Length: %d\r\n" % PUSHED
    framings = [length, b"Transfer-Encoding: chunked\r\n", length + b"Expect: 100-continue\r\n"]
    requests = [head + framing + b"\r\n" + (b"bebc200\r\n" if b"chunked" in framing else b"") for framing in framings]
    assert all(answer.startswith(b"HTTP/1.1 401 ") for answer in push(proxy, requests))
    before = peak_memory(proxy)
    answers = push(proxy, (requests * 17)[:50])
    # Clients are read by turns: asyncio keeps up to 192 KiB of what has come on each connection.
    assert peak_memory(proxy) - before < 30_000_000
    assert len(answers) == 50
    assert all(answer.startswith(b"HTTP/1.1 401 ") for answer in answers)


def test_authorized_body_in_10000_one_byte_chunks_gets_400_as_invalid_json(proxy: Proxy) -> None:
    with RawClient(proxy.port) as client:
        client.send(CHUNKED + b"1\r\n \r\n" * 10_000 + b"0\r\n\r\n")
        assert client.read_response()[0] == 400  # 10,000 blanks are no JSON
    assert TOKEN.encode() in CHUNKED
