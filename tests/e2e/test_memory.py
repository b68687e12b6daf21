"""What is large streams through: neither a large body nor a slow reader makes the proxy's memory grow."""

import hashlib
import http.client
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from scripts.process_stats import forget_peak, peak
from tests.e2e.support.processes import TOKEN, Proxy, running_proxy
from tests.e2e.support.raw_client import Asker, RawClient, chat_body, chat_request
from tests.e2e.support.raw_websocket import opened, switching
from tests.e2e.support.scripted_upstream import Peer, ScriptedUpstream, json_response
from tests.support.frames import BINARY, CLOSE, TEXT, frame
from tests.support.limits import Deadline, limit

LARGE = 100_000_000
MB = 1024 * 1024
ALLOWED = 8 * MB
PIECE = b"A" * 65536
BOUNDARY = "b0undary"
FORM_HEAD = b'--b0undary\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
FORM_TAIL = b"\r\n--b0undary--\r\n"


def pieces(size: int) -> Iterator[bytes]:
    for _ in range(size // len(PIECE)):
        yield PIECE
    yield PIECE[: size % len(PIECE)]


def sha256_of(size: int, before: bytes = b"", after: bytes = b"") -> str:
    digest = hashlib.sha256(before)
    for piece in pieces(size):
        digest.update(piece)
    digest.update(after)
    return digest.hexdigest()


@contextmanager
def memory_stays(proxy: Proxy) -> Iterator[None]:
    """Fails where the proxy's memory grows by more than is allowed, be it for a moment."""
    pid = proxy.process.popen.pid
    before = forget_peak(pid)
    yield
    grown = peak(pid) - before
    assert grown < ALLOWED, f"{grown / MB:.1f} MB more"


def head(path: str, **headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: proxy", f"Authorization: Bearer {TOKEN}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def transcribe(proxy: Proxy, size: int, chunked: bool) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Upload a file of so many bytes, piece by piece."""
    length = len(FORM_HEAD) + size + len(FORM_TAIL)
    framing = {"Transfer_Encoding": "chunked"} if chunked else {"Content_Length": str(length)}
    with RawClient(proxy.port) as client:
        form = f"multipart/form-data; boundary={BOUNDARY}"
        client.send(head("/v1/audio/transcriptions", Content_Type=form, **framing))
        for piece in (FORM_HEAD, *pieces(size), FORM_TAIL):
            client.send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked and piece else piece)
        client.send(b"0\r\n\r\n" if chunked else b"")
        return client.read_response()


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_large_upload_is_streamed_in_bounded_memory_and_signed(proxy: Proxy, chunked: bool) -> None:
    transcribe(proxy, MB, chunked)
    with memory_stays(proxy):
        status, headers, body = transcribe(proxy, LARGE, chunked)
    assert status == 200, body
    assert f"{LARGE} bytes, SHA-256 {sha256_of(LARGE)}".encode() in body
    with Asker(proxy.port) as asker:
        status, signature = asker.signature(headers["x-receipt-id"])
    assert status == 200
    sent, got = sha256_of(LARGE, FORM_HEAD, FORM_TAIL), hashlib.sha256(body).hexdigest()
    assert signature["text"] == f"{sent}:{got}"


def download(proxy: Proxy, path: str, size: int) -> tuple[http.client.HTTPMessage, int, str]:
    """Get an answer of so many bytes and a few more; give its headers, its size and its hash."""
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=limit())
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json", "X-Stand-In-Bytes": str(size)}
    connection.request("POST", path, b'{"prompt":"large","input":"large"}', headers)
    response = connection.getresponse()
    assert response.status == 200
    digest, got = hashlib.sha256(), 0
    while piece := response.read(65536):
        digest.update(piece)
        got += len(piece)
    connection.close()
    return response.headers, got, digest.hexdigest()


@pytest.mark.parametrize("path", ["/v1/audio/speech", "/v1/images/generations"])
def test_large_response_is_streamed_in_bounded_memory(proxy: Proxy, path: str) -> None:
    download(proxy, path, MB)
    with memory_stays(proxy):
        headers, size, sha256 = download(proxy, path, LARGE)
    assert size >= LARGE
    assert headers["Content-Length"] == str(size)
    if path == "/v1/images/generations":
        with Asker(proxy.port) as asker:
            status, signature = asker.signature(headers["x-receipt-id"])
        assert status == 200
        assert signature["text"].endswith(f":{sha256}")


class Tally:
    """Counts bytes, and tells when they come no more."""

    def __init__(self) -> None:
        self.bytes = 0

    def settled(self) -> int:
        """The count, once it has not changed for half a second."""
        deadline = Deadline()
        before = -1
        while (count := self.bytes) != before:
            assert deadline.left > 0, "the bytes never stop coming"
            before = count
            time.sleep(0.5)
        return count


def ask_in_between(proxy: Proxy) -> None:
    with RawClient(proxy.port) as client:
        client.send(chat_request(chat_body()))
        assert client.read_response()[0] == 200


def test_backpressure_of_a_stalled_client_pauses_only_its_own_upstream() -> None:
    sent = Tally()

    def script(peer: Peer) -> None:
        while (request := peer.read_request()) is not None:
            if not request.head.startswith("POST /v1/audio/speech"):
                peer.send(json_response(b'{"id":"chatcmpl-1"}'))
                continue
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nContent-Length: %d\r\n\r\n" % LARGE)
            for piece in pieces(LARGE):
                peer.send(piece)
                sent.bytes += len(piece)

    with ScriptedUpstream(script) as upstream, running_proxy(upstream.url) as proxy:
        ask_in_between(proxy)
        with memory_stays(proxy), RawClient(proxy.port) as client:
            client.send(head("/v1/audio/speech", Content_Length="2") + b"{}")
            client.read_until(b"\r\n\r\n")
            # What is on its way is in the kernel's buffers, of a few MB each.
            assert sent.settled() < LARGE / 2
            ask_in_between(proxy)
            got = len(client.received)
            while got < LARGE:
                data = client.sock.recv(65536)
                assert data
                got += len(data)
        assert sent.bytes == got == LARGE


def test_backpressure_of_a_stalled_upstream_pauses_only_its_own_client() -> None:
    go_on = threading.Event()
    sent = Tally()

    def script(peer: Peer) -> None:
        while (request := peer.read_head()) is not None:
            if request.head.startswith("POST /v1/audio/transcriptions"):
                assert go_on.wait(limit(20))
            peer.skip_body(request)
            peer.send(json_response(b'{"id":"chatcmpl-1"}'))

    def upload(client: RawClient) -> None:
        for piece in pieces(LARGE):
            client.send(piece)
            sent.bytes += len(piece)

    with ScriptedUpstream(script) as upstream, running_proxy(upstream.url) as proxy:
        ask_in_between(proxy)
        with memory_stays(proxy), RawClient(proxy.port) as client:
            form = f"multipart/form-data; boundary={BOUNDARY}"
            client.send(head("/v1/audio/transcriptions", Content_Type=form, Content_Length=str(LARGE)))
            uploading = threading.Thread(target=upload, args=(client,), daemon=True)
            uploading.start()
            try:
                assert sent.settled() < LARGE / 2
                ask_in_between(proxy)
            finally:
                go_on.set()
            uploading.join(limit())
            assert sent.bytes == LARGE
            assert client.read_response()[0] == 200


def test_backpressure_of_a_stalled_websocket_client_pauses_the_upstream() -> None:
    """Within one frame of 100 MB, of which nothing is kept."""
    sent = Tally()
    frame_head = struct.pack("!BBQ", 0x82, 127, LARGE)
    close = frame(CLOSE, b"\x03\xe8", mask=None)

    def converse(peer: Peer) -> None:
        peer.send(frame_head)
        for piece in pieces(LARGE):
            peer.send(piece)
            sent.bytes += len(piece)
        peer.send(close)
        peer.wait_closed()

    with ScriptedUpstream(switching(converse)) as upstream, running_proxy(upstream.url) as proxy:
        with memory_stays(proxy), RawClient(proxy.port) as client:
            receipt = opened(client)
            assert sent.settled() < LARGE / 2
            got = len(client.received)
            while got < len(frame_head) + LARGE + len(close):
                data = client.sock.recv(65536)
                assert data
                got += len(data)
            client.send(frame(TEXT, b"thanks") + frame(CLOSE))
            assert client.sock.recv(1) == b""
        with Asker(proxy.port) as asker:
            assert asker.signature(receipt)[1]["text"] == f"{hashlib.sha256(b'thanks').hexdigest()}:{sha256_of(LARGE)}"


def test_backpressure_of_a_stalled_websocket_upstream_pauses_the_client() -> None:
    go_on = threading.Event()
    sent = Tally()
    one = frame(BINARY, PIECE)

    def converse(peer: Peer) -> None:
        assert go_on.wait(limit(20))
        peer.wait_closed()

    def upload(client: RawClient) -> None:
        for _ in pieces(LARGE):
            client.send(one)
            sent.bytes += len(one)

    with ScriptedUpstream(switching(converse)) as upstream, running_proxy(upstream.url) as proxy:
        with memory_stays(proxy), RawClient(proxy.port) as client:
            opened(client)
            uploading = threading.Thread(target=upload, args=(client,), daemon=True)
            uploading.start()
            try:
                assert sent.settled() < LARGE / 2
            finally:
                go_on.set()
            uploading.join(limit())
            assert sent.bytes > LARGE
