"""How often a client may ask, at a real proxy."""

from tests.e2e.processes import TOKEN, running_proxy
from tests.e2e.raw_client import RawClient, chat_body, chat_request, error_of
from tests.e2e.scripted_upstream import ScriptedUpstream, answering, json_response


def answer(port: int, request: bytes) -> tuple[int, str | None, bytes]:
    with RawClient(port) as client:
        client.send(request)
        status, headers, body = client.read_response()
        return status, headers["retry-after"], body


def refused(port: int, request: bytes) -> bool:
    """Whether a request is refused, at the latest when it comes for the tenth time: this machine may be slow."""
    return any(answer(port, request)[0] == 429 for _ in range(10))


def get(path: str, client: str = "", token: str = TOKEN) -> bytes:
    forwarded = f"X-Forwarded-For: {client}\r\n" if client else ""
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n{forwarded}Authorization: Bearer {token}\r\n\r\n".encode()


def test_one_request_too_many_is_refused_on_both_ports_before_its_token_is_looked_at() -> None:
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


def test_a_refusal_says_when_to_come_again_and_does_not_wait_for_the_body() -> None:
    settings = {"RATE_LIMIT_PER_SECOND": "1", "RATE_LIMIT_BURST_SIZE": "1"}
    with running_proxy("http://127.0.0.1:1", **settings) as proxy:
        for client, more in (("198.51.100.1", ""), ("198.51.100.2", "100-continue")):
            head = chat_request(b"x" * 1000, X_Forwarded_For=client, **({"Expect": more} if more else {}))[:-1000]
            with RawClient(proxy.port) as first, RawClient(proxy.port) as second:
                first.send(get("/v1/signature/x", client))
                assert first.read_response()[0] == 404
                second.send(head)
                status, headers, body = second.read_response()
                assert (status, headers["retry-after"], headers["connection"]) == (429, "1", "close")
                assert error_of(body)["type"] == "rate_limited"


def test_without_trust_nobody_chooses_an_address() -> None:
    settings = {"RATE_LIMIT_PER_SECOND": "1", "RATE_LIMIT_BURST_SIZE": "1", "RATE_LIMIT_NO_TRUST_PROXY": "1"}
    with running_proxy("http://127.0.0.1:1", **settings) as proxy:
        answers = [
            answer(port, get("/v1/signature/x", f"198.51.100.{port % 250}"))[0]
            for port in (proxy.side_port, proxy.port, proxy.side_port, proxy.port)
        ]
        assert answers[0] == 404
        assert 429 in answers
