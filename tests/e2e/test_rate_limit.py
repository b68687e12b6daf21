"""How often a client may ask, at a real proxy."""

import itertools
import json

import pytest

from addons.access.refusal_limit import MOST
from tests.e2e.support.http2_client import Http2Client, fields
from tests.e2e.support.processes import TOKEN, running_proxy
from tests.e2e.support.raw_client import RawClient, chat_body, chat_request, error_of
from tests.e2e.support.scripted_upstream import ScriptedUpstream, answering, json_response


def answer(port: int, request: bytes) -> tuple[int, str | None, bytes]:
    with RawClient(port) as client:
        client.send(request)
        status, headers, body = client.read_response()
        return status, headers["retry-after"], body


def refused(port: int, request: bytes) -> bool:
    """Whether a request is refused, at the latest when it comes for the tenth time: this machine may be slow."""
    return any(answer(port, request)[0] == 429 for _ in range(10))


def get(path: str, client: str = "", token: str = TOKEN, header: str = "X-Forwarded-For") -> bytes:
    forwarded = f"{header}: {client}\r\n" if client else ""
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n{forwarded}Authorization: Bearer {token}\r\n\r\n".encode()


def test_rate_limit_refuses_on_both_ports_before_checking_the_token() -> None:
    with ScriptedUpstream(answering(lambda _: json_response(b'{"id":"x"}'))) as upstream:
        with running_proxy(upstream.url, RATE_LIMIT_PER_SECOND="1", RATE_LIMIT_BURST_SIZE="2") as proxy:
            chat = chat_request(chat_body(), X_Forwarded_For="198.51.100.1")
            assert [answer(proxy.port, chat)[0] for _ in range(2)] == [200, 200]
            for port in (proxy.port, proxy.side_port):
                for token in (TOKEN, "guessed"):
                    assert refused(port, get("/v1/signature/x", "198.51.100.1", token))
            guess = chat_request(chat_body(), token="guessed", X_Forwarded_For="198.51.100.1")
            assert refused(proxy.port, guess)
            # the first entry is the client's own invention, the last one the proxy's
            assert refused(proxy.port, get("/v1/models", "8.8.8.8, 198.51.100.1"))
            assert answer(proxy.port, get("/v1/models", "198.51.100.1, 198.51.100.2"))[0] == 200
            for port in (proxy.port, proxy.side_port):
                for page in ("/", "/version", "/health"):
                    assert not refused(port, get(page, "198.51.100.1"))


def test_rate_limit_429_has_retry_after_and_does_not_wait_for_the_body() -> None:
    settings = {"RATE_LIMIT_PER_SECOND": "1", "RATE_LIMIT_BURST_SIZE": "1"}
    with running_proxy("http://127.0.0.1:1", **settings) as proxy:
        for client, more in (("198.51.100.1", ""), ("198.51.100.2", "100-continue")):
            head = chat_request(b"x" * 1000, X_Forwarded_For=client, **({"Expect": more} if more else {}))[:-1000]
            with RawClient(proxy.port) as first, RawClient(proxy.port) as second:
                first.send(get("/openapi.json", client))
                assert first.read_response()[0] == 200
                second.send(head)
                status, headers, body = second.read_response()
                assert (status, headers["retry-after"], headers["connection"]) == (429, "1", "close")
                assert error_of(body)["type"] == "rate_limited"


def test_rate_limit_without_proxy_trust_ignores_x_forwarded_for() -> None:
    settings = {"RATE_LIMIT_PER_SECOND": "1", "RATE_LIMIT_BURST_SIZE": "1", "RATE_LIMIT_NO_TRUST_PROXY": "1"}
    with running_proxy("http://127.0.0.1:1", **settings) as proxy:
        answers = [
            answer(port, get("/v1/signature/x", f"198.51.100.{port % 250}"))[0]
            for port in (proxy.side_port, proxy.port, proxy.side_port, proxy.port)
        ]
        assert answers[0] == 404
        assert 429 in answers


def test_x_real_ip_names_the_client_on_both_ports() -> None:
    settings = {"RATE_LIMIT_PER_SECOND": "1", "RATE_LIMIT_BURST_SIZE": "1"}
    with running_proxy("http://127.0.0.1:1", **settings) as proxy:
        for port, client in ((proxy.port, "198.51.100.1"), (proxy.side_port, "198.51.100.2")):
            assert refused(port, get("/v1/signature/x", client, header="X-Real-IP"))
            # the same one, as proxies name it that append
            assert refused(port, get("/v1/signature/x", client))
            assert answer(port, get("/v1/signature/x", "198.51.100.3" + str(port)[-1], header="X-Real-IP"))[0] == 404


def test_a_client_that_chats_at_its_full_rate_can_fetch_each_signature() -> None:
    numbers = itertools.count()
    script = answering(lambda _: json_response(b'{"id":"chatcmpl-%d"}' % next(numbers)))
    with ScriptedUpstream(script) as upstream:
        with running_proxy(upstream.url, RATE_LIMIT_PER_SECOND="1", RATE_LIMIT_BURST_SIZE="5") as proxy:
            chat = chat_request(chat_body())
            ids = [json.loads(answer(proxy.port, chat)[2])["id"] for _ in range(5)]
            assert refused(proxy.port, chat)
            for port, chat_id in zip(itertools.cycle([proxy.port, proxy.side_port]), ids, strict=False):
                assert answer(port, get(f"/v1/signature/{chat_id}"))[0] == 200


@pytest.mark.parametrize("which", ["port", "side_port"])
def test_rate_limit_counts_malformed_request_heads(which: str) -> None:
    settings = {"RATE_LIMIT_PER_SECOND": "1", "RATE_LIMIT_BURST_SIZE": "3"}
    with running_proxy("http://127.0.0.1:1", **settings) as proxy:
        port = getattr(proxy, which)
        # With a burst of 3, none of the first three could be refused otherwise.
        statuses = [answer(port, b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n")[0] for _ in range(20)]
        assert statuses == [400] * 20
        assert answer(port, get("/metrics"))[0] == 429


def test_rate_limit_counts_malformed_http2_requests() -> None:
    settings = {"RATE_LIMIT_PER_SECOND": "1", "RATE_LIMIT_BURST_SIZE": "3"}
    with running_proxy("http://127.0.0.1:1", **settings) as proxy, Http2Client(proxy.port) as client:
        for _ in range(20):
            client.wait_reset(client.begin(fields("GET", "*"), end=True))
        assert client.request(fields("GET", "/metrics")).status == 429


def test_a_connection_that_goes_on_after_several_429_is_closed() -> None:
    settings = {"RATE_LIMIT_PER_SECOND": "1", "RATE_LIMIT_BURST_SIZE": "1"}
    with running_proxy("http://127.0.0.1:1", **settings) as proxy:
        for port in (proxy.port, proxy.side_port):
            statuses, headers = [], None
            with RawClient(port) as client:
                while headers is None or headers["connection"] != "close":
                    client.send(get("/metrics"))
                    status, headers, _ = client.read_response("GET")
                    statuses.append(status)
                assert client.read_to_end() == b""
            assert statuses[-MOST:] == [429] * MOST
        with Http2Client(proxy.port) as client2:
            statuses = []
            while client2.gone is None and not client2.closed:
                statuses.append(client2.request(fields("GET", "/metrics")).status)
            client2.wait_closed()
            answered = [status for status in statuses if status]  # the last request may have crossed the GOAWAY
            assert answered[-MOST:] == [429] * MOST
