"""A server that answers a byte at a time holds no client for longer than `proof_timeout`."""

import asyncio
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from attest_web.client import UnprovenError, proof_of, verified_async_openai, verified_openai
from attest_web.client.transports.deadline import ThreadDeadline
from tests.attest_web.client.signing_server import BASE, CHAT, LENIENT, WHOLE, SigningServer
from tests.attest_web.verify.minting import KEYS
from tests.support.certificates import key_pem, self_signed
from tests.support.limits import limit

SIGNERS = [KEYS.ecdsa_address, KEYS.ed25519_address]
TIMEOUT = 0.4
DRIPS: dict[str, tuple[bytes, bytes]] = {
    "head": (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
    "heads": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body": (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"{"),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n{\r\n"),
    "chunk size": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x"),
}


class DrippingServer(socketserver.ThreadingTCPServer):
    """Answers a POST at once, and everything else a few bytes at a time.

    Attributes:
        drip: What each answer begins with, and what comes again and again.
        connections: How many there were.
        gone: Set when a client has hung up.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, drip: tuple[bytes, bytes], tls: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.drip = drip
        self.tls = tls
        self.connections = 0
        self.gone = threading.Event()
        self.stopping = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that hangs up in the handshake


class _Handler(socketserver.BaseRequestHandler):
    server: DrippingServer

    def handle(self) -> None:
        self.server.connections += 1
        sock = self.server.tls.wrap_socket(self.request, server_side=True) if self.server.tls else self.request
        until = time.monotonic() + limit(20)
        came = b""
        try:
            while piece := sock.recv(65536):
                came += piece
                if came.startswith(b"POST ") and came.endswith(b"}"):
                    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(WHOLE), WHOLE))
                    came = b""
                elif came.startswith(b"GET ") and came.endswith(b"\r\n\r\n"):
                    begin, drop = self.server.drip
                    sock.sendall(begin)
                    while time.monotonic() < until and not self.server.stopping.wait(0.02):
                        sock.sendall(drop)
                    return
        except OSError:
            pass
        self.server.gone.set()


@contextmanager
def dripping(drip: tuple[bytes, bytes], tls: ssl.SSLContext | None = None) -> Iterator[DrippingServer]:
    with DrippingServer(drip, tls) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.stopping.set()
            server.shutdown()
            thread.join(limit())


def chat(make: Callable[..., Any], url: str, **options: Any) -> Any:
    given: dict[str, Any] = {"api_key": "t", "max_retries": 0, "proof_timeout": TIMEOUT}
    if make is verified_openai:
        with make(url, **given | options) as client:
            return client.chat.completions.create(**CHAT)

    async def talk() -> Any:
        async with make(url, **given | options) as client:
            return await client.chat.completions.create(**CHAT)

    return asyncio.run(talk())


BOTH = pytest.mark.parametrize("make", [verified_openai, verified_async_openai])


@BOTH
@pytest.mark.parametrize("drip", DRIPS)
@pytest.mark.parametrize("asked", ["report", "signature"])
def test_proof_request_with_a_dripping_response_fails_at_the_proof_timeout(
    make: Callable[..., Any], drip: str, asked: str
) -> None:
    options: dict[str, Any] = {"policy": LENIENT} if asked == "report" else {"signers": SIGNERS}
    with dripping(DRIPS[drip]) as server:
        began = time.monotonic()
        with pytest.raises(UnprovenError, match=f"longer than {TIMEOUT} seconds"):
            chat(make, f"http://127.0.0.1:{server.server_address[1]}/v1", **options)
        assert time.monotonic() - began < limit(5)
        assert server.connections == 1, "of the signature, the chat's own connection was used"
        assert server.gone.wait(limit()), "nothing goes on behind"


@BOTH
def test_requests_waiting_for_one_attestation_time_out_together(make: Callable[..., Any]) -> None:
    with dripping(DRIPS["head"]) as server:
        url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        client = make(url, api_key="t", policy=LENIENT, max_retries=0, proof_timeout=TIMEOUT)

        async def talk() -> list[Any]:
            async with client:
                chats = [client.chat.completions.create(**CHAT) for _ in range(8)]
                return await asyncio.gather(*chats, return_exceptions=True)

        if make is verified_openai:
            with client, ThreadPoolExecutor(8) as threads:
                chats = [threads.submit(client.chat.completions.create, **CHAT) for _ in range(8)]
                failures = [each.exception() for each in chats]
        else:
            failures = asyncio.run(talk())
        assert {str(each) for each in failures} == {str(failures[0])}
        assert all(isinstance(each, UnprovenError) for each in failures)
        assert len({id(each) for each in failures}) == 8
        assert server.connections < 4, "most have waited for one attempt, and made none of their own"


@BOTH
def test_proof_timeout_applies_over_tls_too(make: Callable[..., Any], tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem, both = self_signed(key), tmp_path / "both.pem"
    both.write_bytes(pem + key_pem(key))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(both)
    trusting = ssl.create_default_context(cadata=pem.decode())
    transport = httpx2.HTTPTransport if make is verified_openai else httpx2.AsyncHTTPTransport
    for options in ({"policy": LENIENT}, {"signers": SIGNERS}):
        with dripping(DRIPS["head"], tls) as server:
            url = f"https://127.0.0.1:{server.server_address[1]}/v1"
            with pytest.raises(UnprovenError, match=f"longer than {TIMEOUT} seconds"):
                chat(make, url, transport=transport(verify=trusting), **options)
            assert server.gone.wait(limit())


@BOTH
def test_proof_timeout_covers_all_retries_of_a_signature_request(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attest_web.client.proving.signing.DELAYS", (0.01,) * 1_000_000)
    began = time.monotonic()
    with pytest.raises(UnprovenError, match=f"longer than {TIMEOUT} seconds"):
        chat(make, BASE, policy=LENIENT, transport=httpx2.MockTransport(SigningServer(late=1_000_000)))
    assert time.monotonic() - began < limit(5)


@BOTH
def test_proof_timeout_does_not_count_the_chats_own_time(make: Callable[..., Any]) -> None:
    """That is for the `timeout` of the openai package."""
    server = SigningServer()

    def slow(request: httpx2.Request) -> httpx2.Response:
        if request.method == "POST":
            time.sleep(0.4)  # this is what is tested
        return server(request)

    answer = chat(make, BASE, policy=LENIENT, transport=httpx2.MockTransport(slow), proof_timeout=0.3)
    assert proof_of(answer).signers["ecdsa"] == KEYS.ecdsa_address


def test_httpcore_streams_read_can_be_replaced_and_takes_the_timeout() -> None:
    """A stream's `read` and `write` are looked up on it, and take a timeout."""
    events: list[tuple[str, Any]] = []

    def trace(event: str, info: dict[str, Any]) -> None:
        events.append((event, info.get("return_value")))

    with dripping((b"", b"")) as server, httpx2.HTTPTransport() as transport:
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        request = httpx2.Request("POST", url, json={}, extensions={"trace": trace})
        response = transport.handle_request(request)
        stream = dict(events)["connection.connect_tcp.complete"]
        assert stream is response.extensions["network_stream"]
        read: list[float | None] = []
        plain = stream.read

        def noted(size: int, timeout: float | None = None) -> bytes:
            read.append(timeout)
            return bytes(plain(size, timeout))

        stream.read = noted
        assert response.read() == WHOLE
        extensions = {"timeout": httpx2.Timeout(5).as_dict()}
        again = transport.handle_request(httpx2.Request("POST", url, json={}, extensions=extensions))
        assert again.read() == WHOLE
        assert read[-1] == 5


def test_deadline_bounds_stream_calls_by_position_and_by_keyword() -> None:
    """By name, as for SOCKS, or by position, as for HTTP/2."""

    class Stream:
        """Takes note of the timeouts."""

        timeouts: list[float | None] = []  # noqa: RUF012

        def read(self, max_bytes: int, timeout: float | None = None) -> None:
            self.timeouts.append(timeout)

        def write(self, buffer: bytes, timeout: float | None = None) -> None:
            self.timeouts.append(timeout)

        def start_tls(self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None) -> None:
            self.timeouts.append(timeout)

    deadline, stream = ThreadDeadline(), Stream()
    deadline.trace("socks.connect_tcp.complete", {"return_value": stream})

    def use() -> list[float | None]:
        stream.timeouts.clear()
        stream.read(max_bytes=1)
        stream.read(1, 7)
        stream.write(b"x", timeout=7)
        stream.start_tls(ssl_context=None, server_hostname="x", timeout=7)
        return list(stream.timeouts)

    assert use() == [None, 7, 7, 7]
    with deadline.at(time.monotonic() + 5):
        assert all(timeout is not None and 0 < timeout <= 5 for timeout in use())
    for step in (use, lambda: deadline.trace("connection.connect_tcp.started", {})):
        with deadline.at(time.monotonic() - 1), pytest.raises(httpx2.ReadTimeout):
            step()
    with deadline.at(time.monotonic() - 1):
        deadline.trace("http11.response_closed.started", {})  # what tidies up goes on
    assert use() == [None, 7, 7, 7]
