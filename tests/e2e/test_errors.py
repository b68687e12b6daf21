"""Errors, as the client sees them: OpenAI's shape from here, verbatim from upstream, HTML never."""

import json
import socket
import time

import pytest

from tests.e2e.support.processes import TOKEN, Proxy, running_proxy
from tests.e2e.support.raw_client import Asker, RawClient, chat_body, chat_request, error_of
from tests.e2e.support.scripted_upstream import Peer, ScriptedUpstream, answering, chunk, json_response
from tests.support.limits import limit

UPSTREAM_ERROR = b'{"object":"error","message":"h\xc3\xa9","type":"BadRequestError","param":null,"code":400}'


def ask(proxy: Proxy, request: bytes, method: str = "POST") -> tuple[int, dict[str, str], bytes]:
    with RawClient(proxy.port) as client:
        client.send(request)
        status, headers, body = client.read_response(method)
        return status, {name.lower(): value for name, value in headers.items()}, body


def check(answer: tuple[int, dict[str, str], bytes], status: int, kind: str) -> str:
    assert answer[0] == status
    assert answer[1]["content-type"] == "application/json"
    assert "x-receipt-id" not in answer[1]
    error = error_of(answer[2])
    assert error["type"] == kind
    message: str = error["message"]
    return message


@pytest.mark.parametrize("token", [None, "", "wrong", f"{TOKEN}x", f"{TOKEN},other-token"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/anything"])
def test_401_without_a_valid_token(proxy: Proxy, token: str | None, path: str) -> None:
    answer = ask(proxy, chat_request(chat_body(), token=token, path=path))
    check(answer, 401, "unauthorized")
    assert answer[1]["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xff"])
def test_400_for_a_body_that_is_no_json_object(proxy: Proxy, body: bytes) -> None:
    check(ask(proxy, chat_request(body)), 400, "bad_request")


@pytest.mark.parametrize(
    "head",
    [
        b"GET\r\n\r\n",
        b"GET /health HTTP/2.0\r\nHost: x\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX: a\rTransfer-Encoding: chunked\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX: a\r\n folded\r\n\r\n",
        b"POST /v1/chat/completions HTTP/9.9.9\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nbad name: x\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        chat_request(b"", Transfer_Encoding="chunked").replace(b"Content-Length: 0\r\n", b"") + b"no size\r\n",
    ],
)
def test_400_for_a_malformed_http_request(proxy: Proxy, head: bytes) -> None:
    with RawClient(proxy.port) as client:
        client.send(head)
        status, _, body = client.read_response()
        assert (status, error_of(body)["type"]) == (400, "bad_request")
        assert client.read_to_end() == b"", "one answer is enough"


def test_head_request_without_a_token_gets_401_with_no_body(proxy: Proxy) -> None:
    """Whatever came behind its head would be taken for the next answer on the connection."""
    with RawClient(proxy.port) as client:
        client.send(b"HEAD /v1/x HTTP/1.1\r\nHost: x\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 401 ")
        assert client.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")


def test_request_with_trailers_is_accepted_and_keep_alive_continues(proxy: Proxy) -> None:
    head = chat_request(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    request = head + chunk(chat_body()) + b"0\r\nX-Trailer: y\r\n\r\n"
    with RawClient(proxy.port) as client:
        for _ in range(2):
            client.send(request)
            assert client.read_response()[0] == 200
    check(ask(proxy, request.replace(TOKEN.encode(), b"wrong")), 401, "unauthorized")


@pytest.mark.parametrize(
    "head", [b"GET /v1/models HTTP/1.1", b"GET /v1/other HTTP/1.1", b"POST /v1/chat/completions HTTP/1.1"]
)
def test_upgrade_request_is_stripped_and_an_upstream_101_is_not_forwarded(head: bytes) -> None:
    """Without a token it would be a way in, and with one a way past the signer."""

    def script(peer: Peer) -> None:
        received = peer.read_request()
        assert received
        assert received.header("upgrade") is None
        assert "upgrade" not in (received.header("connection") or "")
        peer.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n")  # unasked
        peer.wait_closed()

    request = head + b"\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n"
    request += b"Authorization: Bearer " + TOKEN.encode() + b"\r\nContent-Length: 2\r\n\r\n{}"
    with ScriptedUpstream(script) as upstream, running_proxy(upstream.url) as proxy, RawClient(proxy.port) as client:
        client.send(request)
        assert b"101" not in client.read_to_end()


def test_an_options_request_that_is_no_preflight_needs_a_token(proxy: Proxy) -> None:
    check(ask(proxy, b"OPTIONS /v1/x HTTP/1.1\r\nHost: x\r\n\r\n"), 401, "unauthorized")


def test_absolute_form_target_is_forwarded_to_the_configured_upstream() -> None:
    with ScriptedUpstream(answering(lambda _: json_response(b"{}"))) as upstream, running_proxy(upstream.url) as proxy:
        with RawClient(proxy.port) as client:
            client.send(b"GET http://evil:81/v1/models HTTP/1.1\r\nHost: evil\r\n\r\n")
            assert client.read_response("GET")[0] == 200
        received = upstream.requests.get(timeout=limit())
        assert received.head.startswith("GET /v1/models HTTP/1.1\r\n")
        assert received.header("host") == upstream.url.removeprefix("http://")


def test_404_for_the_signature_of_an_unknown_id(proxy: Proxy) -> None:
    with Asker(proxy.port) as asker:
        status, _, body = asker.get("/v1/signature/chatcmpl-unknown")
    assert status == 404
    assert error_of(json.dumps(body).encode())["type"] == "not_found"


@pytest.fixture(scope="module")
def small_proxy(fake_vllm: str):  # type: ignore[no-untyped-def]
    with running_proxy(fake_vllm, VLLM_PROXY_MAX_REQUEST_SIZE="1000") as proxy:
        yield proxy


def test_413_for_a_large_content_length_before_any_body(small_proxy: Proxy) -> None:
    head = chat_request(b"").replace(b"Content-Length: 0", b"Content-Length: 1001")
    check(ask(small_proxy, head), 413, "payload_too_large")  # not a byte of the body was sent
    check(ask(small_proxy, head.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")), 413, "payload_too_large")


def test_413_for_a_chunked_body_at_the_first_byte_over_the_limit(small_proxy: Proxy) -> None:
    head = chat_request(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    check(ask(small_proxy, head + chunk(b" " * 1001)), 413, "payload_too_large")  # and no end is in sight
    body = chat_body("x" * 800)
    assert len(body) <= 1000
    assert ask(small_proxy, head + chunk(body) + b"0\r\n\r\n")[0] == 200


def test_502_at_once_when_the_upstream_refuses_the_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        upstream = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with running_proxy(upstream) as proxy:
        for _ in range(2):
            started = time.monotonic()
            message = check(ask(proxy, chat_request(chat_body())), 502, "bad_gateway")
            assert time.monotonic() - started < limit(5)  # no retries, no timeouts
            assert "127.0.0.1" not in message


@pytest.mark.parametrize("status", [502, 504])
def test_gateway_error_after_100_continue_reaches_the_client(status: int) -> None:
    def script(peer: Peer) -> None:
        assert peer.read_request()
        if status == 504:
            peer.wait_closed()

    with ScriptedUpstream(script) as upstream:
        with running_proxy(upstream.url, VLLM_PROXY_TIMEOUT_SECS="0.5") as proxy, RawClient(proxy.port) as client:
            head, _, body = chat_request(chat_body(), Expect="100-continue").partition(b"\r\n\r\n")
            client.send(head + b"\r\n\r\n")
            assert client.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.send(body)
            assert client.read_until(b"\r\n").startswith(b"HTTP/1.1 %d " % status)


def test_upstream_timeout_does_not_count_a_slow_upload() -> None:
    def script(peer: Peer) -> None:
        while peer.read_request() is not None:
            peer.send(json_response(b"{}"))

    with ScriptedUpstream(script) as upstream:
        with running_proxy(upstream.url, VLLM_PROXY_TIMEOUT_SECS="0.4") as proxy, RawClient(proxy.port) as client:
            for path in ("/v1/files", "/v1/chat/completions"):
                request = chat_request(chat_body(), path=path)
                client.send(request[:-5])
                time.sleep(1)  # longer than the timeout, by design
                client.send(request[-5:])
                assert client.read_response()[0] == 200


def test_504_when_the_upstream_times_out_and_its_connection_is_closed() -> None:
    gone = []

    def script(peer: Peer) -> None:
        assert peer.read_request()
        peer.wait_closed()
        gone.append(peer.number)

    with ScriptedUpstream(script) as upstream, running_proxy(upstream.url, VLLM_PROXY_TIMEOUT_SECS="0.5") as proxy:
        check(ask(proxy, chat_request(chat_body())), 504, "gateway_timeout")
        check(ask(proxy, chat_request(chat_body(), path="/v1/other")), 504, "gateway_timeout")
        check(ask(proxy, b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"), 504, "gateway_timeout")
    assert sorted(gone) == [1, 2, 3]


def test_response_begun_in_time_may_complete_after_the_upstream_timeout() -> None:
    def script(peer: Peer) -> None:
        while peer.read_request() is not None:
            response = json_response(b'{"id":"slow"}')
            peer.send(response[:-1])
            time.sleep(1.2)  # longer than the timeout, by design
            peer.send(response[-1:])

    with ScriptedUpstream(script) as upstream:
        with running_proxy(upstream.url, VLLM_PROXY_TIMEOUT_SECS="0.5") as proxy, RawClient(proxy.port) as client:
            for _ in range(2):
                client.send(chat_request(chat_body()))
                assert client.read_response()[0] == 200


@pytest.mark.parametrize("status", ["400 Bad Request", "404 Not Found", "422 Unprocessable", "500 Oh", "503 Busy"])
def test_upstream_errors_pass_verbatim_and_unsigned(status: str) -> None:
    upstream_answer = json_response(UPSTREAM_ERROR, status)
    with ScriptedUpstream(answering(lambda _: upstream_answer)) as upstream, running_proxy(upstream.url) as proxy:
        with RawClient(proxy.port) as client:
            client.send(chat_request(chat_body(), x_request_id="mine"))
            raw = client.read_until(UPSTREAM_ERROR)
    assert raw.replace(b"x-request-id: mine\r\n", b"") == upstream_answer


def test_client_that_keeps_sending_after_a_401_still_receives_it(proxy: Proxy) -> None:
    head = chat_request(b"", token="wrong").replace(b"Content-Length: 0", b"Content-Length: 12000000")
    with RawClient(proxy.port) as client:
        client.send(head)
        for _ in range(120):
            client.send(b"x" * 100_000)
        raw = client.read_to_end()
    assert raw.startswith(b"HTTP/1.1 401 ")
    assert error_of(raw.partition(b"\r\n\r\n")[2])["type"] == "unauthorized"
