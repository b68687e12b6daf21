"""Browsers' requests from other origins, as they are on the wire."""

import http.client
import socket

import pytest

from tests.e2e.support.processes import TOKEN, Proxy, running_proxy
from tests.e2e.support.raw_client import RawClient, chat_body, chat_request, error_of
from tests.e2e.support.scripted_upstream import Received, ScriptedUpstream, answering

ORIGIN = "https://chat.example"
EXPOSED = "x-receipt-id, x-request-id, retry-after"

WITH_ITS_OWN = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 10\r\n"
    b"access-control-allow-origin: https://evil.example\r\nAccess-Control-Allow-Credentials: true\r\n"
    b"ACCESS-CONTROL-EXPOSE-HEADERS: retry-after-ms, Retry-After\r\n"
    b'access-control-expose-headers: x-should-retry,x-ratelimit-reset\r\nVary: Accept\r\n\r\n{"id":"x"}'
)


def ask(port: int, request: bytes, method: str = "POST") -> tuple[int, http.client.HTTPMessage, bytes]:
    with RawClient(port) as client:
        client.send(request)
        return client.read_response(method)


def request_of(method: str, path: str, *lines: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode()


def preflight(path: str, method: str = "POST", *lines: str) -> bytes:
    return request_of("OPTIONS", path, f"Origin: {ORIGIN}", f"Access-Control-Request-Method: {method}", *lines)


def access_control(headers: http.client.HTTPMessage) -> list[tuple[str, str]]:
    return sorted(
        (name.lower(), value) for name, value in headers.items() if name.lower().startswith("access-control-")
    )


OURS = [("access-control-allow-origin", "*"), ("access-control-expose-headers", EXPOSED)]
WITH_THEIRS = [
    ("access-control-allow-origin", "*"),
    ("access-control-expose-headers", f"{EXPOSED}, retry-after-ms, x-should-retry, x-ratelimit-reset"),
]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/signature/x", "/v1/anything", "/health"])
@pytest.mark.parametrize("side", [False, True])
def test_preflight_without_a_token_gets_204_from_the_proxy(proxy: Proxy, path: str, side: bool) -> None:
    asked = preflight(path, "POST", "Access-Control-Request-Headers: authorization,content-type")
    status, headers, body = ask(proxy.side_port if side else proxy.port, asked, "OPTIONS")
    assert (status, body) == (204, b"")
    assert "content-length" not in headers
    assert access_control(headers) == [
        ("access-control-allow-headers", "authorization,content-type"),
        ("access-control-allow-methods", "POST"),
        ("access-control-allow-origin", "*"),
        ("access-control-max-age", "7200"),
    ]


def test_no_preflight_reaches_the_upstream_and_other_options_need_a_token() -> None:
    with ScriptedUpstream(answering(lambda _: WITH_ITS_OWN)) as upstream, running_proxy(upstream.url) as proxy:
        with RawClient(proxy.port) as client:  # on one connection, one after the other
            for path in ("/v1/chat/completions", "/v1/models"):
                client.send(preflight(path))
                assert client.read_response("OPTIONS")[0] == 204
            client.send(preflight("/v1/x", "POST", "Content-Length: 5"))  # its body is not waited for
            assert client.read_response("OPTIONS")[0] == 204
        options = request_of("OPTIONS", "/v1/x", f"Origin: {ORIGIN}")
        assert ask(proxy.port, options, "OPTIONS")[0] == 401
        assert upstream.requests.empty()
        authorized = request_of("OPTIONS", "/v1/x", f"Origin: {ORIGIN}", f"Authorization: Bearer {TOKEN}")
        status, headers, _ = ask(proxy.port, authorized, "OPTIONS")
        assert (status, access_control(headers)) == (200, WITH_THEIRS)
        assert upstream.requests.qsize() == 1


def test_upstream_cors_headers_are_replaced_by_the_proxys() -> None:
    def respond(_: Received) -> bytes:
        return WITH_ITS_OWN

    with ScriptedUpstream(answering(respond)) as upstream, running_proxy(upstream.url) as proxy:
        status, headers, _ = ask(proxy.port, chat_request(chat_body(), Origin=ORIGIN))
        assert (status, access_control(headers), headers.get_all("vary")) == (200, WITH_THEIRS, ["Accept"])
        assert headers["x-receipt-id"]
        assert access_control(ask(proxy.port, chat_request(chat_body()))[1]) == []
        with running_proxy(upstream.url, CORS_ALLOW_ORIGINS=f"https://other.example, {ORIGIN}") as strict:
            for origin, allowed in ((ORIGIN, [ORIGIN]), ("https://evil.example", [])):
                _, headers, _ = ask(strict.port, chat_request(chat_body(), Origin=origin))
                assert headers.get_all("access-control-allow-origin", []) == allowed
                exposed = [WITH_THEIRS[1][1]] if allowed else []
                assert headers.get_all("access-control-expose-headers", []) == exposed
                assert headers.get_all("vary") == ["Accept", "Origin"]
                _, headers, _ = ask(strict.side_port, request_of("GET", "/health", f"Origin: {origin}"), "GET")
                assert headers.get_all("access-control-allow-origin", []) == allowed


def test_error_responses_carry_cors_headers() -> None:
    """Without the header, a script learns only that something went wrong somewhere."""
    with socket.create_server(("127.0.0.1", 0)) as hanging:  # accepts, and never says a word
        nobody = hanging.getsockname()[1]
        settings = {
            "RATE_LIMIT_PER_SECOND": "1",
            "RATE_LIMIT_BURST_SIZE": "1",
            "VLLM_PROXY_TIMEOUT_SECS": "0.2",
            "VLLM_PROXY_MAX_REQUEST_SIZE": "1000",
        }
        origin = f"Origin: {ORIGIN}"
        chunked = chat_request(b"", Transfer_Encoding="chunked", Origin=ORIGIN).replace(b"Content-Length: 0\r\n", b"")
        cases = [
            (413, chat_request(b"x" * 1001, Origin=ORIGIN)),
            (413, chunked + b"3e9\r\n" + b"x" * 1001),
            (401, chat_request(b"{}", token=None, Origin=ORIGIN)),
            (400, chat_request(b"[]", Origin=ORIGIN)),
            (404, request_of("GET", "/v1/signature/x", origin, f"Authorization: Bearer {TOKEN}")),
            (405, request_of("POST", "/health", origin)),
            (504, chat_request(chat_body(), Origin=ORIGIN)),
        ]
        with running_proxy(f"http://127.0.0.1:{nobody}", **settings) as proxy:
            for number, (expected, request) in enumerate(cases):
                client = f"\r\nX-Forwarded-For: 198.51.100.{number}\r\n\r\n".encode()  # each with a burst of its own
                status, headers, body = ask(proxy.port, request.replace(b"\r\n\r\n", client, 1))
                assert (status, access_control(headers)) == (expected, OURS)
                error_of(body)
            for port in (proxy.port, proxy.side_port):
                answers = [ask(port, request_of("GET", "/v1/signature/x", origin), "GET") for _ in range(5)]
                assert 429 in [status for status, _, _ in answers]
                assert all(access_control(headers) == OURS for _, headers, _ in answers)
    with running_proxy(f"http://127.0.0.1:{nobody}") as proxy:
        status, headers, _ = ask(proxy.port, chat_request(chat_body(), Origin=ORIGIN))
        assert (status, access_control(headers)) == (502, OURS)
        status, headers, _ = ask(proxy.port, b"no http\r\n\r\n")
        assert (status, access_control(headers)) == (400, []), "whose it is cannot be read"
