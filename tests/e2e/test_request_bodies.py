"""Request bodies of JSON: small ones are held until they are complete, large ones go on as they come."""

import contextlib
import hashlib
import threading
import time
from collections.abc import Iterator

import pytest

from scripts.process_stats import forget_peak, peak
from tests.e2e.support.metrics import scraped_until
from tests.e2e.support.processes import Proxy, running_proxy
from tests.e2e.support.raw_client import Asker, RawClient, chat_body, chat_request, error_of
from tests.e2e.support.scripted_upstream import Peer, ScriptedUpstream, answering, json_response

MB = 1024 * 1024
TIMEOUT = 30.0
ANSWER = b'{"id":"chatcmpl-large"}'
EMPTY = b'"tool_calls":[],'


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(answering(lambda _: json_response(ANSWER))) as running:
        yield running


@pytest.fixture(scope="module")
def roomy(upstream: ScriptedUpstream) -> Iterator[Proxy]:
    with running_proxy(upstream.url, VLLM_PROXY_MAX_REQUEST_SIZE=str(60 * MB)) as proxy:
        yield proxy


@pytest.fixture
def patient() -> Iterator[ScriptedUpstream]:
    """An upstream that does not mind when it is left alone."""

    def script(peer: Peer) -> None:
        with contextlib.suppress(AssertionError):
            while peer.read_request() is not None:
                peer.send(json_response(ANSWER))

    with ScriptedUpstream(script) as running:
        yield running


def chat_of(size: int) -> bytes:
    """A chat request of about so many bytes, with an empty `tool_calls` before, in and behind what is long."""
    long = b'{"role":"user","content":"%b"}' % (b"h\xc3\xa9llo \\u00e9 " * (size // 14))
    return b'{"messages":[{%b"a":1},%b,{"a":1e400,"tool_calls" : [ ]}],"model":"m"}' % (EMPTY, long)


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("size", [1000, 3 * MB])
def test_chat_body_loses_only_empty_tool_calls_and_is_signed_as_sent(
    roomy: Proxy, upstream: ScriptedUpstream, size: int, chunked: bool
) -> None:
    body = chat_of(size)
    with RawClient(roomy.port) as client:
        if chunked:
            client.send(chat_request(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked"))
            for at in range(0, len(body), 50_000):
                piece = body[at : at + 50_000]
                client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            client.send(b"0\r\n\r\n")
        else:
            client.send(chat_request(body))
        status, headers, answer = client.read_response()
    assert (status, answer) == (200, ANSWER)
    received = upstream.requests.get(timeout=TIMEOUT)
    without = body.replace(EMPTY, b"").replace(b',"tool_calls" : [ ]', b"")
    if size < MB or chunked:
        assert received.body == without
    else:
        assert len(received.body) == len(body), "that was announced"
        assert received.body.translate(None, b" ") == without.translate(None, b" ")
        assert b"tool_calls" not in received.body
    with Asker(roomy.port) as asker:
        signature = asker.signature(headers["x-receipt-id"])[1]
    assert signature["text"] == f"{hashlib.sha256(body).hexdigest()}:{hashlib.sha256(ANSWER).hexdigest()}"


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/completions", "/v1/responses", "/v1/messages"])
@pytest.mark.parametrize("size", [100, 2 * MB])
def test_body_on_other_routes_is_forwarded_unchanged(
    roomy: Proxy, upstream: ScriptedUpstream, path: str, size: int
) -> None:
    body = chat_of(size)
    with RawClient(roomy.port) as client:
        client.send(chat_request(body, path=path))
        assert client.read_response()[0] == 200
    assert upstream.requests.get(timeout=TIMEOUT).body == body


def test_large_chat_body_of_invalid_json_is_forwarded_unchanged(roomy: Proxy, upstream: ScriptedUpstream) -> None:
    body = b"]" * (2 * MB)
    with RawClient(roomy.port) as client:
        client.send(chat_request(body))
        assert client.read_response()[0] == 200
    assert upstream.requests.get(timeout=TIMEOUT).body == body


@pytest.mark.parametrize(
    ("begin", "pattern"),
    [(b'{"content":"', b"x"), (b'{"a":0,', b'"tool_calls":[],'), (b'{"a":', b"["), (b"", b'{"tool_calls":[]},')],
)
def test_large_chat_body_uses_bounded_memory_and_blocks_no_other_client(
    roomy: Proxy, upstream: ScriptedUpstream, begin: bytes, pattern: bytes
) -> None:
    body = b'{"messages":[' + begin + pattern * (4 * MB // len(pattern))
    with RawClient(roomy.port) as client, RawClient(roomy.port) as other:
        sending = threading.Thread(target=client.send, args=(chat_request(body),), daemon=True)
        before = forget_peak(roomy.process.popen.pid)
        sending.start()
        while True:
            other.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert other.read_response("GET")[0] == 200
            if not sending.is_alive():
                break
        client.sock.settimeout(TIMEOUT)
        assert client.read_response()[0] == 200
        grown = peak(roomy.process.popen.pid) - before
    assert len(upstream.requests.get(timeout=TIMEOUT).body) == len(body)
    assert grown < 8 * MB, f"{grown / MB:.1f} MB more"


def test_body_budget_bounds_unfinished_bodies_and_refuses_the_excess_with_503(
    patient: ScriptedUpstream,
) -> None:
    begun = chat_request(chat_body("x" * 900_000))[:-10]
    with running_proxy(patient.url, MAX_BUFFERED_BODY_BYTES=str(4 * MB)) as proxy, contextlib.ExitStack() as stack:
        with RawClient(proxy.port) as warm:
            warm.send(chat_request(chat_body("x" * 900_000)))
            assert warm.read_response()[0] == 200
        before = forget_peak(proxy.process.popen.pid)
        slow = [stack.enter_context(RawClient(proxy.port)) for _ in range(20)]
        for client in slow:
            client.send(begun)
        with RawClient(proxy.port) as other:
            for _ in range(3):
                other.send(chat_request(chat_body()))
                assert other.read_response()[:1] == (200,)
        assert peak(proxy.process.popen.pid) - before < 10 * MB
        refused = 0
        for client in slow:
            client.send(b"x")
        for client in slow:
            client.sock.settimeout(0.5)
            with contextlib.suppress(TimeoutError):
                status, headers, body = client.read_response()
                assert (status, headers["Retry-After"], error_of(body)["type"]) == (503, "1", "server_error")
                refused += 1
        assert 15 <= refused < 20
        scraped_until(proxy.url, lambda scrape: scrape("tee_refusals_total", reason="unavailable") >= refused)


def test_buffered_body_sent_slowly_past_its_deadline_gets_408(patient: ScriptedUpstream) -> None:
    with running_proxy(patient.url, CLIENT_BODY_DEADLINE_SECS="1") as proxy, RawClient(proxy.port) as client:
        client.send(chat_request(chat_body("x" * 500_000))[:-100])
        client.sock.settimeout(0.2)
        for _ in range(50):
            with contextlib.suppress(TimeoutError):
                assert client.sock.recv(12) == b"HTTP/1.1 408"
                break
            client.send(b"x")
        else:
            pytest.fail("it went on")


def test_streamed_upload_may_outlast_the_buffered_body_deadline(patient: ScriptedUpstream) -> None:
    with running_proxy(patient.url, CLIENT_BODY_DEADLINE_SECS="1") as proxy, RawClient(proxy.port) as client:
        request = chat_request(b"x" * 30_000, path="/v1/audio/transcriptions")
        client.send(request[:-30_000])
        for _ in range(30):
            client.send(b"x" * 1000)
            time.sleep(0.1)  # thrice the deadline in all
        assert client.read_response()[0] == 200


def test_streamed_upload_slowed_to_single_bytes_gets_408(patient: ScriptedUpstream) -> None:
    with running_proxy(patient.url, CLIENT_BODY_TIMEOUT_SECS="1") as proxy, RawClient(proxy.port) as client:
        client.send(chat_request(b"x" * 5 * MB, path="/v1/audio/transcriptions")[:-1000])
        client.sock.settimeout(0.2)
        for _ in range(50):
            with contextlib.suppress(TimeoutError):
                assert client.sock.recv(12) == b"HTTP/1.1 408"
                break
            client.send(b"x")
        else:
            pytest.fail("it went on")
