"""At its most verbose, the proxy writes nothing of what clients and models say, and none of their tokens."""

import base64
import json
import signal
import socket
import urllib.request
from pathlib import Path

from tests.e2e.support.processes import TOKEN, Proxy, running_proxy
from tests.e2e.support.raw_client import Asker, RawClient, chat_body, chat_request
from tests.e2e.support.scripted_upstream import (
    LAST_CHUNK,
    SSE_HEAD,
    Peer,
    Received,
    ScriptedUpstream,
    chunk,
    json_response,
)
from tests.support.frames import CLOSE, KEY, PING, TEXT, accept_of, frame
from tests.support.limits import limit

PROMPT, ANSWER, FOREIGN = "XPROMPTX", "XANSWERX", "XFOREIGNTOKENX"
MARKS = [PROMPT, ANSWER, FOREIGN, TOKEN]


def upstream_answers(received: Received, peer: Peer) -> None:
    """Do what the request's path and user say."""
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
    """Everything that makes a proxy talk."""
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


def check_written(where: Path, output: str) -> None:
    """No mark, in any of the ways in which bytes are written down, in the output or in a file."""
    written = {"output": output.encode("utf-8", "surrogateescape")}
    written |= {path.name: path.read_bytes() for path in where.rglob("*") if path.is_file()}
    assert len(written["output"]) > 10_000, "it was not verbose at all"
    for mark in MARKS:
        raw = mark.encode()
        forms = [
            raw,
            raw.hex().encode(),
            raw.hex().upper().encode(),
            *(base64.b64encode(b" " * n + raw)[4:-4] for n in range(3)),
        ]
        for name, content in written.items():
            for form in forms:
                at = content.find(form)
                assert at < 0, f"{mark} is in {name}: {content[max(0, at - 300) : at + 100]!r}"


def test_nothing_is_written_of_prompts_answers_and_tokens(tmp_path: Path) -> None:
    verbose = ["-v", "--set", "proxy_debug=true", "--set", "flow_detail=4", "--set", "termlog_verbosity=debug"]
    saving = ["-w", str(tmp_path / "flows"), "--set", f"hardump={tmp_path / 'flows.har'}"]
    with ScriptedUpstream(script) as upstream:
        with running_proxy(upstream.url, *verbose, *saving, program="mitmdump", HOME=str(tmp_path)) as proxy:
            exercise(proxy)
            with RawClient(proxy.port) as under_way:  # stopped with a request in flight
                under_way.send(chat_request(chat_body(PROMPT), X_What="json"))
                under_way.read_until(ANSWER.encode())
                proxy.process.stop(signal.SIGINT)
    assert (tmp_path / "flows").stat().st_size > 1000
    assert (tmp_path / "flows.har").stat().st_size > 1000
    check_written(tmp_path, proxy.process.output)


def test_where_plaintext_may_be_inspected_flows_hold_it_and_a_warning_says_so(tmp_path: Path) -> None:
    flows = tmp_path / "flows"
    with ScriptedUpstream(script) as upstream:
        with running_proxy(upstream.url, "-w", str(flows), program="mitmdump", INSPECT_PLAINTEXT="1") as proxy:
            for path in ("/v1/chat/completions", "/v1/audio/transcriptions"):
                with RawClient(proxy.port) as client:
                    client.send(chat_request(chat_body(PROMPT), path=path))
                    assert client.read_response()[0] == 200
    assert "prompts and answers stay in flows" in proxy.process.output
    saved = flows.read_bytes()
    assert (saved.count(PROMPT.encode()), saved.count(ANSWER.encode())) == (2, 2)
    assert TOKEN.encode() not in saved


def test_a_program_that_neither_shows_nor_saves_flows_does_not_warn_of_it(fake_vllm: str) -> None:
    with running_proxy(fake_vllm, program="tee-signer", INSPECT_PLAINTEXT="1") as proxy:
        pass
    assert "DEV=1" in proxy.process.output
    assert "stay in flows" not in proxy.process.output


def test_a_request_in_flight_at_the_stop_is_not_saved_with_its_body(tmp_path: Path) -> None:
    def silent(peer: Peer) -> None:
        assert peer.read_request()
        peer.wait_closed()

    flows = tmp_path / "flows"
    with ScriptedUpstream(silent) as upstream:
        with (
            running_proxy(upstream.url, "-w", str(flows), program="mitmdump") as proxy,
            RawClient(proxy.port) as client,
        ):
            client.send(chat_request(chat_body(PROMPT)))
            upstream.requests.get(timeout=limit())
            proxy.process.stop()
    saved = flows.read_bytes()
    assert b"/v1/chat/completions" in saved
    assert PROMPT.encode() not in saved
    assert TOKEN.encode() not in saved


def test_mitmweb_shows_no_prompt_while_the_upstream_works_on_it(free_ports: list[int]) -> None:
    def silent(peer: Peer) -> None:
        assert peer.read_request()
        peer.wait_closed()

    web = ["--no-web-open-browser", "--set", f"web_port={free_ports[0]}", "--set", "web_password=pw"]

    def shown(path: str) -> bytes:
        request = urllib.request.Request(
            f"http://127.0.0.1:{free_ports[0]}{path}", headers={"Authorization": "Bearer pw"}
        )
        with urllib.request.urlopen(request, timeout=limit()) as response:
            found: bytes = response.read()
            return found

    with ScriptedUpstream(silent) as upstream, running_proxy(upstream.url, *web, program="mitmweb") as proxy:
        with RawClient(proxy.port) as client:
            client.send(chat_request(chat_body(PROMPT)))
            upstream.requests.get(timeout=limit())
            assert len(json.loads(shown("/flows"))) == 1
            for path in ("/flows", "/flows/dump"):  # the dump has the bodies, where there are any
                content = shown(path)
                assert PROMPT.encode() not in content
                assert TOKEN.encode() not in content
