"""Either side goes away, in the middle of things."""

import threading
import time
from collections.abc import Callable

import pytest

from tests.e2e.support.processes import TOKEN, Proxy, running_proxy
from tests.e2e.support.raw_client import Asker, RawClient, chat_body, chat_request, error_of, signature_status
from tests.e2e.support.scripted_upstream import (
    LAST_CHUNK,
    SSE_HEAD,
    Peer,
    ScriptedUpstream,
    chunk,
    events,
    json_response,
)
from tests.support import verification
from tests.support.limits import limit

ANSWER = b'{"id":"chatcmpl-1","choices":[]}'


def receipt_of(head: bytes) -> str:
    [line] = [line for line in head.decode().split("\r\n") if line.lower().startswith("x-receipt-id:")]
    return line.split(":")[1].strip()


@pytest.mark.parametrize(
    "sent", [0, 1, 3], ids=["before the first byte", "in the middle", "when all but the end is sent"]
)
def test_client_disconnect_cancels_the_upstream_within_a_second_unsigned(sent: int) -> None:
    pieces = events("chatcmpl-1", "a", "b")
    client_gone = threading.Event()
    cancelled_after: list[float] = []

    def script(peer: Peer) -> None:
        assert peer.read_request()
        if sent:
            peer.send(SSE_HEAD + b"".join(map(chunk, pieces[:sent])))
        assert client_gone.wait(limit())
        started = time.monotonic()
        peer.wait_closed()
        cancelled_after.append(time.monotonic() - started)

    with ScriptedUpstream(script) as upstream, running_proxy(upstream.url) as proxy:
        with RawClient(proxy.port) as client:
            client.send(chat_request(chat_body(stream=True)))
            upstream.requests.get(timeout=limit())
            if sent:
                client.read_until(chunk(pieces[0]))
        client_gone.set()
        proxy.process.wait_for("not signed: the exchange was cut short")
        assert signature_status(proxy, "chatcmpl-1") == 404
    [seconds] = cancelled_after
    assert seconds < 1


@pytest.mark.parametrize("end", [Peer.close, Peer.reset], ids=["FIN", "RST"])
@pytest.mark.parametrize("sent", [1, 3], ids=["in the middle", "behind [DONE]"])
def test_upstream_disconnect_mid_stream_truncates_the_response_unsigned(end: Callable[[Peer], None], sent: int) -> None:
    pieces = events("chatcmpl-1", "a", "b")

    def script(peer: Peer) -> None:
        assert peer.read_request()
        peer.send(SSE_HEAD + b"".join(map(chunk, pieces[:sent])))
        assert arrived.wait(limit())
        end(peer)

    arrived = threading.Event()
    with ScriptedUpstream(script) as upstream, running_proxy(upstream.url) as proxy:
        with RawClient(proxy.port) as client:
            client.send(chat_request(chat_body(stream=True)))
            head = client.read_until(b"\r\n\r\n")
            client.read_until(chunk(pieces[0]))
            arrived.set()
            rest = client.read_to_end()
        assert not rest.endswith(LAST_CHUNK), "a client must be able to tell that this was not the end"
        assert b"[DONE]" not in rest
        assert signature_status(proxy, "chatcmpl-1") == 404
        assert signature_status(proxy, receipt_of(head)) == 404


def test_upstream_silent_mid_stream_times_out_unsigned() -> None:
    gone = threading.Event()

    def script(peer: Peer) -> None:
        assert peer.read_request()
        peer.send(SSE_HEAD + chunk(events("chatcmpl-1", "a")[0]))
        peer.wait_closed()
        gone.set()

    with ScriptedUpstream(script) as upstream, running_proxy(upstream.url, VLLM_PROXY_TIMEOUT_SECS="0.5") as proxy:
        with RawClient(proxy.port) as client:
            client.send(chat_request(chat_body(stream=True)))
            assert not client.read_to_end().endswith(LAST_CHUNK)
        assert gone.wait(limit())
        assert signature_status(proxy, "chatcmpl-1") == 404


def test_stream_left_open_after_its_last_event_is_ended_and_signed() -> None:
    pieces = events("chatcmpl-1", "a")
    gone = threading.Event()

    def script(peer: Peer) -> None:
        assert peer.read_request()
        peer.send(SSE_HEAD + b"".join(map(chunk, pieces)))
        peer.wait_closed()
        gone.set()

    with ScriptedUpstream(script) as upstream, running_proxy(upstream.url) as proxy:
        with RawClient(proxy.port) as client:
            client.send(chat_request(chat_body(stream=True)))
            status, _, body = client.read_response()  # which times out long before the upstream's hour is over
            assert (status, body) == (200, b"".join(pieces))
            with Asker(proxy.port) as asker:
                verification.check(asker.signature("chatcmpl-1")[1], chat_body(stream=True), body)
            assert gone.wait(limit())


def test_upstream_disconnect_mid_json_leaves_no_signature() -> None:
    def script(peer: Peer) -> None:
        assert peer.read_request()
        peer.send(json_response(ANSWER)[:-1])
        peer.close()

    with ScriptedUpstream(script) as upstream, running_proxy(upstream.url) as proxy:
        with RawClient(proxy.port) as client:
            client.send(chat_request(chat_body()))
            assert ANSWER not in client.read_to_end()
        assert signature_status(proxy, "chatcmpl-1") == 404


def chat_succeeds(client: RawClient) -> bool:
    client.send(chat_request(chat_body()))
    status, _, body = client.read_response()
    return (status, body) == (200, ANSWER)


def test_upstream_that_closes_idle_connections_is_reconnected() -> None:
    closed = threading.Semaphore(0)

    def script(peer: Peer) -> None:
        assert peer.read_request()
        peer.send(json_response(ANSWER))
        peer.close()
        closed.release()

    with (
        ScriptedUpstream(script) as upstream,
        running_proxy(upstream.url, "-v") as proxy,
        RawClient(proxy.port) as client,
    ):
        for number in range(1, 4):
            assert chat_succeeds(client)
            assert closed.acquire(timeout=limit())
            proxy.process.wait_for(f"(?s)(server disconnect.*){{{number}}}")


@pytest.mark.parametrize("end", [Peer.close, Peer.reset], ids=["FIN", "RST"])
def test_request_on_a_closing_keep_alive_connection_is_retried_and_signed(end: Callable[[Peer], None]) -> None:
    """The first connection answers once, and closes when the next request is already on it, without a word."""

    def script(peer: Peer) -> None:
        while peer.read_request() is not None:
            if peer.number == 1 and answered.is_set():
                end(peer)
                return
            peer.send(json_response(ANSWER))
            answered.set()

    answered = threading.Event()
    body = chat_body("the second")
    with ScriptedUpstream(script) as upstream, running_proxy(upstream.url) as proxy, RawClient(proxy.port) as client:
        assert chat_succeeds(client)
        client.send(chat_request(body))
        status, headers, answer = client.read_response()
        assert (status, answer) == (200, ANSWER)
        assert [upstream.requests.get(timeout=limit()).body for _ in range(3)][1:] == [body, body]
        with Asker(proxy.port) as asker:
            _, signed = asker.signature(headers["x-receipt-id"])
        verification.check(signed, body, ANSWER)


@pytest.mark.parametrize(
    "framing", ["Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"]
)
def test_request_with_a_streamed_body_is_not_retried_and_gets_502(framing: str) -> None:
    """The upstream would take the next request for the body, and another answer than the model's would be signed."""

    def script(peer: Peer) -> None:
        while peer.read_request() is not None:
            if peer.number == 1 and answered.is_set():
                return
            peer.send(json_response(ANSWER))
            answered.set()

    answered = threading.Event()
    asked = f"GET /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n{framing}".encode()
    with ScriptedUpstream(script) as upstream, running_proxy(upstream.url) as proxy, RawClient(proxy.port) as client:
        assert chat_succeeds(client)
        client.send(asked)
        assert client.read_response("GET")[0] == 502
        assert [upstream.requests.get(timeout=limit()).body for _ in range(2)][1:] == [b"hello"]
        assert upstream.requests.empty()


def test_request_on_a_closing_keep_alive_connection_is_retried_only_once() -> None:
    def script(peer: Peer) -> None:
        assert peer.read_request()
        if peer.number == 1:
            peer.send(json_response(ANSWER))
            assert peer.read_request()

    with ScriptedUpstream(script) as upstream, running_proxy(upstream.url) as proxy, RawClient(proxy.port) as client:
        assert chat_succeeds(client)
        client.send(chat_request(chat_body()))
        status, _, body = client.read_response()
        assert (status, error_of(body)["type"]) == (502, "bad_gateway")
        assert upstream.requests.qsize() == 3


def test_request_on_a_new_connection_that_closes_is_not_retried() -> None:
    def script(peer: Peer) -> None:
        assert peer.read_request()

    with ScriptedUpstream(script) as upstream, running_proxy(upstream.url) as proxy, RawClient(proxy.port) as client:
        client.send(chat_request(chat_body()))
        assert client.read_response()[0] == 502
        assert upstream.requests.qsize() == 1


def test_signature_of_a_reused_response_id_is_not_overwritten(proxy: Proxy) -> None:
    """vLLM lets clients choose their request id; the stand-in does so too."""
    bodies, receipts = [chat_body("first"), chat_body("second")], []
    answers = []
    for body in bodies:
        with RawClient(proxy.port) as client:
            client.send(chat_request(body, X_Request_Id="chosen"))
            _, headers, answer = client.read_response()
            receipts.append(headers["x-receipt-id"])
            answers.append(answer)
    with Asker(proxy.port) as asker:
        verification.check(asker.signature("chatcmpl-chosen")[1], bodies[0], answers[0])
        for receipt, body, answer in zip(receipts, bodies, answers, strict=True):
            verification.check(asker.signature(receipt)[1], body, answer)
