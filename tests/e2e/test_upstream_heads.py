"""What an upstream's answer says of the upstream's own address, and what the upstream is told of its own."""

from collections.abc import Iterator

import pytest

from tests.e2e.support.http2_client import Http2Client, fields
from tests.e2e.support.processes import PROGRAMS, TOKEN, Proxy, running_proxy
from tests.e2e.support.raw_client import RawClient, chat_body, chat_request
from tests.e2e.support.scripted_upstream import Received, ScriptedUpstream, answering, json_response
from tests.support.limits import limit

OWN_FIELDS = (  # of which none may be seen
    'Alt-Svc: h3=":443"\r\nSet-Cookie: session=one\r\nset-cookie: b=2\r\nX-Receipt-Id: rcpt-x\r\n'
)


def redirect(received: Received) -> bytes:
    """A redirect to the same path with a slash, as engines make it of `Host`; with all that goes no further."""
    path = received.head.split(" ")[1]
    where = f"http://{received.header('host')}{path}/"
    head = f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {where}\r\nContent-Location: {where}\r\n{OWN_FIELDS}"
    return f"{head}Content-Length: 0\r\n\r\n".encode()


@pytest.fixture(scope="module", params=["127.0.0.1", "::1"])
def upstream(request: pytest.FixtureRequest) -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(answering(redirect), host=request.param) as running:
        yield running


@pytest.fixture(scope="module")
def other() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(answering(redirect), host="::1") as running:
        yield running


@pytest.fixture(scope="module", params=PROGRAMS)
def redirecting(upstream: ScriptedUpstream, other: ScriptedUpstream, request: pytest.FixtureRequest) -> Iterator[Proxy]:
    overrides = {"VLLM_RERANK_URL": f"{other.url}/api/rerank", "VLLM_IMAGES_URL": f"{other.url}/v1/images/generations"}
    with running_proxy(upstream.url, program=request.param, **overrides) as running:
        yield running


PATHS = ["/v1/models", "/v1/models/", "/v1/chat/completions", "/v1/rerank", "/v1/images/generations", "/v1/tokenize"]


def request_for(path: str, **headers: str) -> bytes:
    if path.startswith("/v1/models"):
        return f"GET {path} HTTP/1.1\r\nHost: proxy\r\nAuthorization: Bearer {TOKEN}\r\nCookie: a=b\r\n\r\n".encode()
    return chat_request(chat_body(), path=path, Cookie="a=b", **headers)


@pytest.mark.parametrize("path", PATHS)
def test_upstream_redirect_location_is_rewritten_to_the_proxys_address(
    redirecting: Proxy, upstream: ScriptedUpstream, other: ScriptedUpstream, path: str
) -> None:
    asked_of = other if "rerank" in path or "images" in path else upstream
    with RawClient(redirecting.port) as client:
        client.send(request_for(path).replace(b"Host: proxy", b"Host: chat.example:1234"))
        status, headers, _ = client.read_response("GET" if path.startswith("/v1/models") else "POST")
    assert status == 307
    assert headers["location"] == headers["content-location"] == f"http://chat.example:1234{path}/"
    for name in ("alt-svc", "set-cookie", "x-receipt-id"):
        assert headers[name] is None
    received = asked_of.requests.get(timeout=limit())
    assert received.header("host") == asked_of.url.removeprefix("http://")
    assert received.header("cookie") is None


@pytest.mark.parametrize("path", PATHS)
def test_upstream_redirect_location_is_rewritten_over_http2(
    redirecting: Proxy, upstream: ScriptedUpstream, other: ScriptedUpstream, path: str
) -> None:
    asked_of = other if "rerank" in path or "images" in path else upstream
    with Http2Client(redirecting.port) as client:
        if path.startswith("/v1/models"):
            answer = client.request(fields("GET", path, ("cookie", "a=b"), ("cookie", "c=d")))
        else:
            answer = client.request(fields("POST", path, ("cookie", "a=b")), chat_body())
    assert answer.status == 307
    assert answer.headers["location"] == answer.headers["content-location"] == f"https://proxy{path}/"
    assert not {"alt-svc", "set-cookie", "x-receipt-id"} & set(answer.headers)
    received = asked_of.requests.get(timeout=limit())
    assert received.header("host") == asked_of.url.removeprefix("http://")
    assert received.header("cookie") is None


@pytest.mark.parametrize("program", PROGRAMS)
def test_ipv6_upstream_is_logged_and_probed_in_brackets(program: str) -> None:
    with ScriptedUpstream(answering(lambda _: json_response(b"{}")), host="::1") as upstream:
        with running_proxy(upstream.url, program=program) as proxy, RawClient(proxy.port) as client:
            assert f"reverse proxy to {upstream.url} listening" in proxy.process.output
            client.send(b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.read_response("GET")[0] == 200
        assert upstream.requests.get(timeout=limit()).header("host") == upstream.url.removeprefix("http://")
