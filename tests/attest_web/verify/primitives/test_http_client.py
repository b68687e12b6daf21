import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path

import pytest

from attest_web.verify.primitives.http_client import Answer, FetchError, HttpClient, Origin
from tests.attest_web.verify.fake_proxy import fake_proxy
from tests.support.limits import limit


@contextmanager
def answering(*pieces: bytes | Iterator[bytes], pause: float = 0, close: bool = True) -> Iterator[Origin]:
    """A server that answers one connection with these bytes, whatever it is asked."""
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                try:
                    for piece in chain.from_iterable([each] if isinstance(each, bytes) else each for each in pieces):
                        connection.sendall(piece)
                        if pause and done.wait(pause):
                            return
                    if not close:
                        done.wait(10)
                except OSError:
                    return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield Origin(False, "127.0.0.1", listener.getsockname()[1], "")
        finally:
            done.set()
            thread.join(5)


def get(origin: Origin, timeout: float = 5, max_bytes: int = 1000) -> Answer:
    return HttpClient(origin, "token", timeout, max_bytes=max_bytes).request("GET", "/x")


def test_http_response_is_returned_after_transfer_decoding() -> None:
    with answering(
        b"HTTP/1.1 200 OK\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
    ) as origin:
        answer = get(origin)
    assert (answer.status, answer.body, answer.headers["x-a"], answer.spki_sha256) == (200, b"hello", "b", None)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\x00\xff\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nshort",
    ],
)
def test_incomplete_or_malformed_http_response_raises_an_error_without_the_token(sent: bytes) -> None:
    with answering(sent) as origin, pytest.raises(FetchError, match="no complete response") as refused:
        get(origin)
    assert "token" not in str(refused.value)


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 5\r\nContent-Length: 5",
        b"Content-Length: 2\r\ncontent-length: 5",
        b"Content-Length: 5, 5",
        b"Content-Length: +5",
        b"Content-Length: 0_5",
        b"Content-Length: 0x5",
        b"Content-Length: -1",
        b"Content-Length: ",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding: xchunked",
    ],
)
def test_ambiguous_message_framing_is_refused(framing: bytes) -> None:
    body = b"5\r\nhello\r\n0\r\n\r\n" if b"chunked" in framing else b"hello"
    with answering(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n" + body) as origin:
        with pytest.raises(FetchError, match="more than one framing, or an unknown one"):
            get(origin)


def test_an_unrequested_content_encoding_is_refused() -> None:
    with answering(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello") as origin:
        with pytest.raises(FetchError, match="content-encoding gzip, which was not requested"):
            get(origin)


def test_repeated_response_headers_are_joined() -> None:
    head = b"HTTP/1.1 200 OK\r\nX-Receipt-Id: rcpt-1\r\nContent-Length: 0\r\nx-receipt-id: rcpt-2\r\n\r\n"
    with answering(head) as origin:
        assert get(origin).headers["x-receipt-id"] == "rcpt-1, rcpt-2"


def test_response_over_max_bytes_raises_an_error() -> None:
    for head in (b"Content-Length: 1001", b"Connection: close"):
        with answering(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" + b"x" * 1001) as origin:
            with pytest.raises(FetchError, match="more than 1000 bytes"):
                get(origin)


def test_negative_chunk_size_does_not_bypass_max_bytes() -> None:
    """http.client takes the size -1 for "as much as there is"."""
    sent = 0

    def pieces() -> Iterator[bytes]:
        nonlocal sent
        yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n"
        for _ in range(1024):
            yield b"x" * 65536
            sent += 65536

    with answering(pieces()) as origin, pytest.raises(FetchError, match="more than 1000 bytes"):
        get(origin)
    assert sent < 32 * 1024 * 1024, "a socket's buffers hold some, but not this"


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_dripping_or_silent_server_raises_an_error_at_the_timeout(head: bytes) -> None:
    for drops in (0, 200):
        with answering(head, *[b"A"] * drops, pause=0.02 if drops else 0, close=False) as origin:
            started = time.monotonic()
            with pytest.raises(FetchError, match=r"longer than 0\.3 seconds"):
                get(origin, timeout=0.3)
            assert time.monotonic() - started < limit(2)


def test_nothing_is_sent_to_a_server_whose_certificate_is_refused(certificate: tuple[Path, bytes]) -> None:
    shown: list[bytes] = []

    def verify(der: bytes, refuse: bool) -> None:
        shown.append(der)
        if refuse:
            raise FetchError("another guest")

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate[0])
    with fake_proxy(tls=tls) as proxy:
        origin = Origin(True, "127.0.0.1", proxy.server_address[1], "")
        trusting = ssl.create_default_context(cafile=certificate[0])

        def client(refuse: bool) -> HttpClient:
            return HttpClient(origin, "token", limit(5), trusting, verify_certificate=partial(verify, refuse=refuse))

        with pytest.raises(FetchError, match="another guest"):
            client(True).request("POST", "/v1/chat/completions", b"{}")
        assert client(False).request("GET", "/v1/models").status == 200
        assert proxy.received == [b"GET /v1/models HTTP/1.1\r\n"]
    assert shown == 2 * [ssl.PEM_cert_to_DER_cert(certificate[0].read_text().partition("-----BEGIN PRIVATE")[0])]


def test_a_refused_connection_is_a_fetch_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(FetchError, match=f"cannot connect to 127.0.0.1:{port}"):
        get(Origin(False, "127.0.0.1", port, ""))


def test_unresolvable_host_raises_an_error_that_names_the_address() -> None:
    with pytest.raises(FetchError, match=r"cannot connect to a\.\.b:80"):
        get(Origin(False, "a..b", 80, ""))


def test_origin_is_parsed_from_a_valid_url_and_invalid_ones_are_refused() -> None:
    assert Origin.parse("http://h:81/a/") == Origin(False, "h", 81, "/a")
    assert Origin.parse("https://[::1]") == Origin(True, "::1", 443, "")
    for url in (
        "",
        "h:80",
        "ftp://h",
        "http://",
        "http://u:p@h",
        "http://h:x",
        "http://h?q",
        "http://h/\r\nA:b",
        "http://[",
        "http://h:99999",
        "http://h:0",
        "https://h:0/a",
        "http://a..b",
        "http://.b",
        f"http://{'a' * 64}.b",
    ):
        with pytest.raises(ValueError, match="URL"):
            Origin.parse(url)
    assert Origin.parse(f"http://{'a' * 63}.b.").host == f"{'a' * 63}.b."
    assert Origin.parse("http://[::1]:1").is_loopback
    assert not Origin.parse("http://localhost.example").is_loopback
