"""Traffic with marks in everything that clients and upstreams can send: no mark may appear in a log."""

import socket

from tests.e2e.support.processes import TOKEN, Proxy
from tests.e2e.support.raw_client import Asker, RawClient, chat_body, chat_request
from tests.e2e.support.scripted_upstream import (
    LAST_CHUNK,
    SSE_HEAD,
    Peer,
    Received,
    chunk,
    json_response,
)
from tests.support.frames import CLOSE, KEY, PING, TEXT, accept_of, frame

PROMPT, ANSWER, FOREIGN = "XPROMPTX", "XANSWERX", "XFOREIGNTOKENX"


MARKS = [PROMPT, ANSWER, FOREIGN, TOKEN]


def upstream_answers(received: Received, peer: Peer) -> None:
    """Respond as the request's path and user demand."""
    answer = b'{"id":"chatcmpl-1","choices":[{"message":{"content":"%s"}}]}' % ANSWER.encode()
    what = received.header("x-what")
    match what:
        case "stream":
            peer.send(SSE_HEAD + chunk(b"data: " + answer + b"\n\n") + chunk(b"data: [DONE]\n\n") + LAST_CHUNK)
        case "cut":
            peer.send(SSE_HEAD + chunk(b"data: " + answer + b"\n\n"))
            peer.close()
        case "bad chunk":
            peer.send(SSE_HEAD + b"%s\r\n" % ANSWER.encode())
            peer.close()
        case "bad head":
            peer.send(b"HTTP/1.1 200 OK\r\n%s\r\n\r\n" % ANSWER.encode())
        case "half head":
            peer.send(b"HTTP/1.1 200 OK\r\nx: %s" % ANSWER.encode())
            peer.close()
        case "surplus":
            peer.send(json_response(answer) + b"HTTP/1.1 200 OK\r\nx: %s\r\n\r\n" % ANSWER.encode())
        case "websocket":
            accept = accept_of(received.header("sec-websocket-key") or "")
            peer.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n")
            peer.send(f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode() + frame(TEXT, answer, mask=None))
            peer.send(frame(CLOSE, b"\x03\xe8" + ANSWER.encode(), mask=None))
        case "error":
            peer.send(json_response(b'{"message":"input_value=%s"}' % PROMPT.encode(), "422 Unprocessable Entity"))
        case _:
            peer.send(json_response(answer))


def script(peer: Peer) -> None:
    while (received := peer.read_request()) is not None:
        upstream_answers(received, peer)


def exercise(proxy: Proxy) -> None:
    """Traffic that causes every kind of log line."""
    body = chat_body(PROMPT)
    for what in ("json", "stream", "cut", "bad chunk", "bad head", "half head", "surplus", "error"):
        with RawClient(proxy.port) as client:
            client.send(chat_request(body, X_What=what))
            client.read_until(b"\r\n\r\n")
            if what in ("json", "stream"):
                client.read_until(ANSWER.encode())
    exercise_websockets(proxy)
    for token in (FOREIGN, None):
        with RawClient(proxy.port) as client:
            client.send(chat_request(body, token=token))
            client.read_response()
    for hostile in (
        b"POST /v1/chat/completions HTTP/1.1\r\nAuthorization: Bearer %s\r\n%s\r\n\r\n"
        % (FOREIGN.encode(), PROMPT.encode()),
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization : Bearer %s\r\n\r\n" % FOREIGN.encode(),
        b"%s\r\n\r\n" % PROMPT.encode(),
        chat_request(b"{" + PROMPT.encode()),
        chat_request(body, path="/v1/other"),
        chat_request(body, path="/v1/other", X_What="error"),
        chat_request(body, path="/v1/audio/transcriptions", X_What="bad chunk"),
        chat_request(body, path="/v1/messages", token=None, X_Api_Key=FOREIGN),
        chat_request(body, Content_Length="nope"),
        chat_request(body, Transfer_Encoding="nope"),
        chat_request(b"", Expect="100-continue").replace(b"Content-Length: 0", b"Content-Length: 99999999"),
        chat_request(b"", Transfer_Encoding="chunked").replace(b"Content-Length: 0\r\n", b"")
        + PROMPT.encode()
        + b"\r\n",
        b"GET /v1/signature/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n" % FOREIGN.encode(),
    ):
        with RawClient(proxy.port) as client:
            client.send(hostile)
            client.read_until(b"\r\n\r\n")
    with RawClient(proxy.port) as client:  # gone in the middle of the head
        client.send(b"POST / HTTP/1.1\r\nAuthorization: Bearer %s\r\nx: %s" % (FOREIGN.encode(), PROMPT.encode()))
    with RawClient(proxy.port) as client:  # and in the middle of the body
        client.send(chat_request(body)[:-3])
    with RawClient(proxy.port) as client, Asker(proxy.side_port) as asker:
        client.send(chat_request(chat_body(PROMPT, stream=True), X_What="stream"))
        client.read_until(LAST_CHUNK)
        assert asker.signature("chatcmpl-1")[0] == 200


def exercise_websockets(proxy: Proxy) -> None:
    """WebSockets that end in every way; the token comes as browsers send it."""

    def handshake(token: str) -> bytes:
        return (
            "GET /v1/realtime HTTP/1.1\r\nHost: x\r\nX-What: websocket\r\n"
            "Connection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n"
            f"Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.{token}\r\n\r\n"
        ).encode()

    prompt = frame(TEXT, PROMPT.encode())
    for ending in (
        frame(CLOSE, b"\x03\xe8" + PROMPT.encode()),
        frame(CLOSE, b"\x0f\xa0" + PROMPT.encode()),
        frame(PING, PROMPT.encode()) + b"\xff" + prompt,
        prompt[:-3],
    ):
        with RawClient(proxy.port) as client:
            client.send(handshake(TOKEN))
            client.read_until(ANSWER.encode())
            client.send(prompt + ending)
            client.sock.shutdown(socket.SHUT_WR)
            client.read_to_end()
    with RawClient(proxy.port) as client:
        client.send(handshake(FOREIGN))
        client.read_response("GET")
