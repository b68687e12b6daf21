"""Streams on their way: which bytes, and when."""

import threading
from functools import partial

import pytest

from tests.e2e.support.http2_client import Answer, Http2Client, fields
from tests.e2e.support.processes import running_proxy
from tests.e2e.support.raw_client import Asker, RawClient, chat_body, chat_request
from tests.e2e.support.scripted_upstream import LAST_CHUNK, SSE_HEAD, Peer, ScriptedUpstream, chunk
from tests.support import verification
from tests.support.limits import limit

AWKWARD = (
    b"\xef\xbb\xbf: a comment first\r\n\r\n"
    b'data: {"choices":[]}\r\n\r\n'
    b'event: message\rdata: {"id":"chatcmpl-awkward",\r'
    b'data: "choices":[{"delta":{"content":"h\xc3\xa9\xf0\x9f\x99\x82"}}]}\r\r'
    b'data:{"id":"other","choices":[{"delta":{"content":"[DONE] data: [DONE]\\n\\n"}}]}\n\n'
    b'data: {"choices":[],"usage":{"total_tokens":3}}\n\n'
    b"data: [DONE]\n\n"
)


@pytest.mark.parametrize("piece_size", [1, 2, 7, 50, len(AWKWARD)])
def test_unusually_framed_stream_arrives_unchanged_and_is_signed(piece_size: int) -> None:
    def script(peer: Peer) -> None:
        assert peer.read_request()
        peer.send(SSE_HEAD)
        for at in range(0, len(AWKWARD), piece_size):
            peer.send(chunk(AWKWARD[at : at + piece_size]))
        peer.send(LAST_CHUNK)
        peer.wait_closed()

    request = chat_body(stream=True)
    with ScriptedUpstream(script) as upstream, running_proxy(upstream.url) as proxy:
        with RawClient(proxy.port) as client:
            client.send(chat_request(request))
            status, _, body = client.read_response()
        assert (status, body) == (200, AWKWARD)
        with Asker(proxy.port) as asker:
            status, answer = asker.signature("chatcmpl-awkward")
    assert status == 200
    verification.check(answer, request, AWKWARD)


def test_stream_pieces_are_forwarded_before_the_next_one_is_sent() -> None:
    """The upstream sends a piece only when the client has the one before: a proxy that waits for more waits forever."""
    pieces = [
        b": ping\n\n",
        b'data: {"id":"chatcmpl-1","choices":[{"delta":{"content":"one"}}]}\n\n',
        b'data: {"id":"chatcmpl-1","choices":[{"delta":{"content":"tw',  # half an event is not kept back either
        b'o"}}]}\n\ndata: {"x":[1',
        b"]}\r\n\r\n",
    ]
    arrived = threading.Semaphore(0)

    def script(peer: Peer) -> None:
        assert peer.read_request()
        peer.send(SSE_HEAD)
        for piece in pieces:
            peer.send(chunk(piece))
            assert arrived.acquire(timeout=limit()), "the piece did not come through"
        peer.send(chunk(b"data: [DONE]\n\n") + LAST_CHUNK)
        peer.wait_closed()

    with ScriptedUpstream(script) as upstream, running_proxy(upstream.url) as proxy, RawClient(proxy.port) as client:
        client.send(chat_request(chat_body(stream=True)))
        client.read_until(b"\r\n\r\n")
        for piece in pieces:
            assert client.read_until(chunk(piece)) == chunk(piece)
            arrived.release()
        assert client.read_until(LAST_CHUNK) == chunk(b"data: [DONE]\n\n") + LAST_CHUNK


JSON_HEAD = SSE_HEAD.replace(b"text/event-stream; charset=utf-8", b"application/json")


JSON_IN_PIECES = {
    "blank lines before it": ([b"\n", b"\n", b" \r\n"], b'{"id":"c-1"}'),
    "elements of an array": ([b'[{"id":"a"}', b',{"id":"b","x":[]}', b',{"id":"c"}', b"\n"], b"]"),
    "events": ([b'data: {"id":"c-1"}\n\n', b"data: {}\n\n", b'data: {"x":[1]}\n\n'], b"data: [DONE]\n\n"),
    "parts of an object": ([b'{"id":"c-1","choices":[{"text":"}"}', b',{"text":"]"}', b"]"], b"}\n"),
}


def has_come(answer: Answer, body: bytes) -> bool:
    return answer.body == body


def test_json_in_pieces_is_forwarded_as_it_arrives_except_its_end() -> None:
    """The upstream sends a piece only when the client has the one before."""
    arrived = threading.Semaphore(0)

    def script(peer: Peer) -> None:
        while (received := peer.read_request()) is not None:
            pieces, last = JSON_IN_PIECES[received.header("x-case") or ""]
            peer.send(JSON_HEAD)
            for piece in pieces:
                peer.send(chunk(piece))
                assert arrived.acquire(timeout=limit()), "the piece did not come through"
            peer.send(chunk(last) + LAST_CHUNK)

    request = chat_body()
    with (
        ScriptedUpstream(script) as upstream,
        running_proxy(upstream.url) as proxy,
        RawClient(proxy.port) as client,
        Asker(proxy.port) as asker,
    ):
        for path in ("/v1/chat/completions", "/v1/embeddings", "/v1/other"):
            for case, (pieces, last) in JSON_IN_PIECES.items():
                client.send(chat_request(request, path=path, x_case=case))
                head = client.read_until(b"\r\n\r\n").lower()
                for piece in pieces:
                    assert client.read_until(chunk(piece)) == chunk(piece), (path, case)
                    arrived.release()
                client.read_until(LAST_CHUNK)
                receipt = head.split(b"x-receipt-id: ")[1].partition(b"\r\n")[0].decode()
                status, answer = asker.signature(receipt)
                assert status == 200
                verification.check(answer, request, b"".join(pieces) + last)
        with Http2Client(proxy.port) as http2:
            for case, (pieces, last) in JSON_IN_PIECES.items():
                stream = http2.begin(fields("POST", "/v1/chat/completions", ("x-case", case)))
                http2.send(stream, request, end=True)
                answered = http2.answers[stream]
                for number in range(len(pieces)):
                    came = b"".join(pieces[: number + 1])
                    http2.wait(partial(has_come, answered, came))
                    arrived.release()
                assert http2.finish(stream).body == b"".join(pieces) + last


def test_done_event_is_held_back_until_the_end_of_the_message() -> None:
    seen_done = threading.Event()

    def script(peer: Peer) -> None:
        assert peer.read_request()
        peer.send(
            SSE_HEAD + chunk(b'data: {"id":"chatcmpl-1"}\n\n') + chunk(b"data: [DONE]\n\n") + chunk(b": more\n\n")
        )
        assert not seen_done.wait(0.2)  # it may take as long as it likes: what counts is that it is not there
        peer.send(LAST_CHUNK)
        peer.wait_closed()

    with ScriptedUpstream(script) as upstream, running_proxy(upstream.url) as proxy, RawClient(proxy.port) as client:
        client.send(chat_request(chat_body(stream=True)))
        client.read_until(b"[DONE]")
        seen_done.set()
        client.read_until(b": more\n\n")


def test_requests_are_forwarded_byte_for_byte_whatever_their_framing() -> None:
    body = b'{ "model":"m",\n "messages":[{"role":"user","content":"h\xc3\xa9\\u00e9"}] }'

    def script(peer: Peer) -> None:
        while peer.read_request() is not None:
            peer.send(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{"id":"c1"}')

    chunked = b"".join(chunk(body[at : at + 10]) for at in range(0, len(body), 10)) + LAST_CHUNK
    head = chat_request(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    with ScriptedUpstream(script) as upstream, running_proxy(upstream.url) as proxy, RawClient(proxy.port) as client:
        for request in (chat_request(body), head + chunked):
            client.send(request)
            assert client.read_response()[0] == 200
            received = upstream.requests.get(timeout=limit())
            assert received.body == body
            assert received.header("authorization") is None
            assert received.header("accept-encoding") == "identity"
        with Asker(proxy.port) as asker:
            status, answer = asker.signature("c1")
            assert status == 200
            verification.check(answer, body, b'{"id":"c1"}')
