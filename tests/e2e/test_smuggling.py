"""Requests that two servers might read in two ways: each is refused, or goes upstream in exactly one form.

What the upstream gets is compared byte for byte. The rules are in `addons.messages.request_head`, where a longer table
of heads stands; here is the whole way.
"""

import queue
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.e2e.support.processes import TOKEN, Proxy, running_proxy
from tests.e2e.support.raw_client import RawClient, chat_body, error_of
from tests.e2e.support.scripted_upstream import Peer, ScriptedUpstream, chunk, json_response
from tests.support.limits import limit

AUTH = b"Authorization: Bearer " + TOKEN.encode()
ANSWER = b'{"from":"upstream"}'


@dataclass(frozen=True)
class Seen:
    """What came over one upstream connection for one request; not whole where the connection ended within it."""

    raw: bytes
    whole: bool = True


@dataclass(frozen=True)
class Way:
    proxy: Proxy
    host: bytes
    seen: "queue.Queue[Seen]"


@pytest.fixture(scope="module")
def way() -> Iterator[Way]:
    """A proxy, and an upstream that writes down what it gets."""
    with running_way() as running:
        yield running


@pytest.fixture(scope="module")
def way_of_breaks() -> Iterator[Way]:
    """Another one for requests that break off, of which the upstream may learn while the next test is on already."""
    with running_way() as running:
        yield running


@contextmanager
def running_way() -> Iterator[Way]:
    seen: queue.Queue[Seen] = queue.Queue()

    def script(peer: Peer) -> None:
        while True:
            peer.raw = b""
            try:
                if peer.read_request() is None:
                    break
            except AssertionError:
                seen.put(Seen(peer.raw, whole=False))
                return
            seen.put(Seen(peer.raw))
            peer.send(json_response(ANSWER))
        assert not peer.raw

    with ScriptedUpstream(script) as upstream, running_proxy(upstream.url) as proxy:
        yield Way(proxy, upstream.url.removeprefix("http://").encode(), seen)


def request(*lines: bytes, first: bytes = b"POST /v1/x HTTP/1.1", body: bytes = b"") -> bytes:
    return b"\r\n".join([first, b"Host: x", AUTH, *lines, b"", b""]) + body


def upstream_gets(way: Way) -> list[Seen]:
    """What has reached the upstream; and the way is free for the next client."""
    with RawClient(way.proxy.port) as client:
        client.send(request(first=b"GET /v1/after HTTP/1.1"))
        assert client.read_response("GET")[0] == 200
    gets = []
    while b"GET /v1/after " not in (latest := way.seen.get(timeout=limit())).raw:
        gets.append(latest)
    return gets


def assert_refused(way: Way, sent: bytes) -> None:
    with RawClient(way.proxy.port) as client:
        client.send(sent)
        status, headers, body = client.read_response()
        assert (status, error_of(body)["type"]) == (400, "bad_request")
        assert headers["connection"] == "close"
        assert client.read_to_end() == b"", "one answer is enough"


HIDDEN = b"GET /v1/hidden HTTP/1.1\r\nHost: x\r\n" + AUTH + b"\r\n\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        request(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + HIDDEN),
        request(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n" + HIDDEN),
        *[
            request(b"Transfer-Encoding: " + coding, body=b"0\r\n\r\n" + HIDDEN)
            for coding in (
                b"xchunked",
                b"chunked\x0b",
                b'"chunked"',
                b"gzip, chunked",
                b"chunked, identity",
                b"identity",
            )
        ],
        request(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n" + HIDDEN),
        request(b"\tTransfer-Encoding: chunked", body=b"0\r\n\r\n" + HIDDEN),
        request(b"X: y", b" Transfer-Encoding: chunked", body=b"0\r\n\r\n" + HIDDEN),
        request(b"X: y\nTransfer-Encoding: chunked", body=b"0\r\n\r\n" + HIDDEN),
        request(b"X: y\rTransfer-Encoding: chunked", body=b"0\r\n\r\n" + HIDDEN),
        request(b"Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n" + HIDDEN),
        request(b"Transfer-Encoding: chunked", b"Transfer-Encoding: x", body=b"0\r\n\r\n" + HIDDEN),
        request(b"Transfer-Encoding: chunked", first=b"POST /v1/x HTTP/1.0", body=b"0\r\n\r\n" + HIDDEN),
        request(b"Content-Length: 0", b"Content-Length: %d" % len(HIDDEN), body=HIDDEN),
        request(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"),
        *[
            request(b"Content-Length: " + length, body=b"hello" + HIDDEN)
            for length in (b"+5", b"5,5", b"0x5", b"-5", b"5 ,", b"5\x0b", b"05", b"9" * 30, b"9" * 5000)
        ],
        request(b"Content-Length\x00: 5", body=b"hello" + HIDDEN),
        request(b"X: a\x00b"),
        request(b"X: a\x01b"),
        request(b"X(: a"),
        request(b"Host: y"),
        b"GET /v1/x HTTP/1.1\r\n" + AUTH + b"\r\n\r\n",
        request().replace(b"\r\n", b"\n"),
        request().replace(b"Host: x\r\n", b"Host: x\n"),
        request(first=b"GET /v1/x\x00 HTTP/1.1"),
        request(first=b"GET /v1/x /v1/y HTTP/1.1"),
        request(first=b"GET\t/v1/x\tHTTP/1.1"),
        request(first=b"get /health HTTP/1.1"),
        request(first=b"GET /v1/models#/ HTTP/1.1"),
        request(first=b"GET  HTTP/1.1"),
        request(first=b"GET v1/x HTTP/1.1"),
        request(first=b"GET * HTTP/1.1"),
        request(first=b"OPTIONS * HTTP/1.1"),
        request(first=b"CONNECT /health HTTP/1.1"),
        request(first=b"CONNECT x:80 HTTP/1.1"),
        request(first=b"GET x:80 HTTP/1.1"),
        request(first=b"GET file:///health HTTP/1.1"),
        request(first=b"GET http://x?/health HTTP/1.1"),
        request(first=b"GET http://x:99999/health HTTP/1.1"),
        b"GET /v1/x\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_ambiguous_request_gets_400_and_is_not_forwarded(way: Way, sent: bytes) -> None:
    assert_refused(way, sent)
    assert upstream_gets(way) == []


CHUNKED = b"Transfer-Encoding: chunked"


@pytest.mark.parametrize("first", [b"POST /v1/x HTTP/1.1", b"POST /v1/chat/completions HTTP/1.1"])
@pytest.mark.parametrize(
    "body",
    [
        *[
            size + b"\r\nhello\r\n0\r\n\r\n"
            for size in (b"", b"+5", b"-5", b"0x5", b" 5", b"5,5", b"5\x0b", b"5\n", b"f" * 21, b"5;\n", b"5 a")
        ],
        b"5\nhello\n0\n\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhello!\r\n0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"0\r\n\n",
        b"0\r\nX: y\n\n",
        b"0\r\nX: y\nZ: z\r\n\r\n",
        b"0\r\nno colon\r\n\r\n",
        b"0\r\nX : y\r\n\r\n",
        b"5;" + b"a" * 70_000,
        b"0\r\nX: " + b"a" * 70_000,
    ],
)
def test_malformed_chunked_body_gets_400_and_is_never_complete_upstream(
    way_of_breaks: Way, first: bytes, body: bytes
) -> None:
    assert_refused(way_of_breaks, request(CHUNKED, first=first, body=body))
    assert not any(seen.whole for seen in upstream_gets(way_of_breaks))


def gets(first: bytes, *lines: bytes, body: bytes = b"") -> bytes:
    """What the upstream gets: its own name for a host, no token, and a wish for an answer as it is."""
    return b"\r\n".join([first, b"Host: HOST", *lines, b"accept-encoding: identity", b"", b""]) + body


_MADE_ID = re.compile(rb"X-Request-Id: [0-9a-f]{32}\r\n", re.IGNORECASE)
"""What the proxy calls a request whose client has not given it an id."""

POST = b"POST /v1/x HTTP/1.1"
TRICKS = [
    b"//v1/models",
    b"/v1//models",
    b"/v1/./models",
    b"/v1/models/",
    b"/v1/models/../models",
    b"/v1/%6dodels",
    b"/v1/models%2f",
    b"/v1/models;a",
    b"/v1/models%00",
    b"/v1/models%3f",
    b"/v1\\models",
    b"/V1/models",
    b"//v1/../v1/signature/x",
    b"/v1/x/../signature/x",
    b"/v1/%73ignature/x",
    b"/v1/%2e%2e/health",
    b"/%68ealth",
    b"//health",
    b"/health/",
    b"/./health",
    b"/v1/%63hat/completions",
    b"/v1/chat/completions/",
    b"/http://x/health",
]


@pytest.mark.parametrize(
    ("sent", "forwarded"),
    [
        *[(request(first=b"GET %s HTTP/1.1" % path), gets(b"GET %s HTTP/1.1" % path)) for path in TRICKS],
        (request(first=b"GET http://other:81//v1/x?a HTTP/1.1"), gets(b"GET //v1/x?a HTTP/1.1")),
        (request(first=b"GET https://other/v1/x HTTP/1.1"), gets(b"GET /v1/x HTTP/1.1")),
        (b"\r\n" + request(first=b"GET /v1/x HTTP/1.1"), gets(b"GET /v1/x HTTP/1.1")),
        (request(first=b"GET /v1/x HTTP/1.0"), gets(b"GET /v1/x HTTP/1.1")),
        (
            request(CHUNKED, body=b'5;a=b;c="d"\r\nhello\r\n000\r\nX: y\r\nContent-Length: 9\r\n\r\n'),
            gets(POST, CHUNKED, body=chunk(b"hello") + b"0\r\n\r\n"),
        ),
        (
            request(CHUNKED.upper(), body=b"1\r\nh\r\n00004 \r\nello\r\n0\r\n\r\n"),
            gets(POST, CHUNKED.upper(), body=chunk(b"hello") + b"0\r\n\r\n"),
        ),
        (
            request(b"Content-Length:  %d\t" % len(HIDDEN), body=HIDDEN),
            gets(POST, b"Content-Length: %d" % len(HIDDEN), body=HIDDEN),
        ),
        (
            request(
                b"Connection: close, X-Foo, content-length, host, transfer-encoding",
                b"X-Foo: 1",
                b"Keep-Alive: timeout=5",
                b"Proxy-Connection: keep-alive",
                b"TE: trailers",
                b"Trailer: X",
                b"X-Kept: 2",
                b"Content-Length: 5",
                body=b"hello",
            ),
            gets(POST, b"X-Kept: 2", b"Content-Length: 5", body=b"hello"),
        ),
    ],
)
def test_authorized_request_is_forwarded_in_one_normalized_form(way: Way, sent: bytes, forwarded: bytes) -> None:
    with RawClient(way.proxy.port) as client:
        client.send(sent)
        status, _, body = client.read_response()
    assert (status, body) == (200, ANSWER)
    [seen] = upstream_gets(way)
    assert Seen(_MADE_ID.sub(b"", seen.raw), seen.whole) == Seen(forwarded.replace(b"HOST", way.host))


@pytest.mark.parametrize("path", TRICKS)
def test_path_variants_without_a_token_get_401_and_are_not_forwarded(way: Way, path: bytes) -> None:
    with RawClient(way.proxy.port) as client:
        client.send(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path)
        assert client.read_response("GET")[0] == 401
    assert upstream_gets(way) == []


@pytest.mark.parametrize("target", [b"/health", b"http://other/health", b"http://other"])
@pytest.mark.parametrize("framing", [b"Content-Length: %d" % len(HIDDEN), CHUNKED])
def test_body_sent_to_a_proof_page_is_not_forwarded_as_a_request(way: Way, target: bytes, framing: bytes) -> None:
    body = chunk(HIDDEN) + b"0\r\n\r\n" if framing == CHUNKED else HIDDEN
    with RawClient(way.proxy.port) as client:
        for _ in range(2):
            client.send(request(framing, first=b"GET %s HTTP/1.1" % target, body=body))
            status, _, answer = client.read_response("GET")
            assert status == 200
            assert answer != ANSWER
    assert upstream_gets(way) == []


def test_pipelined_requests_are_each_checked_for_a_token(way: Way) -> None:
    no_token = b"GET /v1/no HTTP/1.1\r\nHost: x\r\n\r\n"
    with RawClient(way.proxy.port) as client:
        client.send(request(b"Content-Length: 5", body=b"hello") + no_token + HIDDEN)
        for status in (200, 401, 200):
            assert client.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 %d " % status)
            client.read_until(b"}}" if status == 401 else ANSWER)
    whole = [seen.raw.split(b" ")[1] for seen in upstream_gets(way)]
    assert whole == [b"/v1/x", b"/v1/hidden"]


def test_upstream_hop_by_hop_headers_are_not_sent_to_the_client() -> None:
    def script(peer: Peer) -> None:
        while peer.read_request() is not None:
            lines = [b"Connection: close, X-Foo", b"X-Foo: 1", b"Keep-Alive: timeout=5", b"Trailer: x", b"X-Kept: 2"]
            peer.send(json_response(ANSWER).replace(b"\r\n\r\n", b"\r\n" + b"\r\n".join(lines) + b"\r\n\r\n"))
            peer.wait_closed()  # as it has said

    with ScriptedUpstream(script) as upstream, running_proxy(upstream.url) as proxy, RawClient(proxy.port) as client:
        for _ in range(2):
            client.send(request(first=b"GET /v1/x HTTP/1.1"))
            status, headers, _ = client.read_response("GET")
            assert status == 200
            assert headers["x-kept"] == "2"
            for name in ("connection", "x-foo", "keep-alive", "trailer"):
                assert name not in headers


@pytest.mark.parametrize("first", [b"GET /v1/x HTTP/1.1", b"GET /v1/x HTTP/1.0"])
def test_client_connection_close_gets_the_response_and_then_a_close(way: Way, first: bytes) -> None:
    with RawClient(way.proxy.port) as client:
        client.send(request(b"Connection: Close", first=first))
        answer = client.read_to_end()
    assert answer.endswith(ANSWER)
    assert b"\r\nconnection: close\r\n" in answer.lower()
    upstream_gets(way)


@pytest.mark.parametrize("given", ["abc-123", "!" * 200])
def test_request_id_is_returned_with_every_response_and_forwarded(way_of_breaks: Way, given: str) -> None:
    line = b"X-Request-Id: " + given.encode()
    refused = request(line).replace(TOKEN.encode(), b"wrong")
    bad_body = request(line, CHUNKED, body=b"x\r\n")
    proof = request(line, first=b"GET /v1/signature/unknown HTTP/1.1")
    for sent, expected in ((request(line), 200), (refused, 401), (bad_body, 400), (proof, 404)):
        with RawClient(way_of_breaks.proxy.port) as client:
            client.send(sent)
            status, headers, _ = client.read_response()
            assert (status, headers.get_all("x-request-id")) == (expected, [given])
    assert any(line in seen.raw for seen in upstream_gets(way_of_breaks) if seen.whole)


@pytest.mark.parametrize("given", [b"a b", b"\xe9", b"a" * 201, b""])
def test_invalid_request_id_is_replaced_upstream_and_in_the_response(way: Way, given: bytes) -> None:
    with RawClient(way.proxy.port) as client:
        client.send(request(b"X-Request-Id: " + given))
        status, headers, _ = client.read_response()
    [made] = headers.get_all("x-request-id") or []
    assert (status, len(made)) == (200, 32)
    [seen] = upstream_gets(way)
    assert b"\r\nX-Request-Id: %s\r\n" % made.encode() in seen.raw


def test_malformed_request_head_gets_a_response_with_a_request_id(way: Way) -> None:
    with RawClient(way.proxy.port) as client:
        client.send(b"\x01\r\n\r\n")
        status, headers, _ = client.read_response()
    assert status == 400
    assert headers["x-request-id"]


def test_well_formed_chat_is_forwarded_and_gets_a_receipt_id(way: Way) -> None:
    """The way that all this guards is open."""
    body = chat_body()
    with RawClient(way.proxy.port) as client:
        client.send(request(b"Content-Length: %d" % len(body), first=b"POST /v1/chat/completions HTTP/1.1", body=body))
        status, headers, _ = client.read_response()
    assert status == 200
    assert headers["x-receipt-id"]
    [seen] = upstream_gets(way)
    assert seen.raw.endswith(body)
