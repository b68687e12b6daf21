import pytest
from mitmproxy import http
from mitmproxy.connection import Server

from addons.exchange.attempt import Target
from addons.exchange.record import Exchange
from addons.routing.routes import find_route
from addons.upstream.target import begin_attempt, bracket_ipv6_host, direct, is_reused, target_of


def request(address: str = "http://vllm:8000") -> http.Request:
    made = http.Request.make("POST", f"{address}/v1/rerank?x=1")
    made.headers["host"] = "client.example"
    return made


def test_direct_to_the_current_target_keeps_the_host_header_and_path() -> None:
    directed = request()
    direct(directed, Target("http", "vllm", 8000))
    assert directed.headers["host"] == "client.example"
    assert directed.path == "/v1/rerank?x=1"


@pytest.mark.parametrize(
    ("target", "host"),
    [
        (Target("https", "vllm", 8000), "vllm:8000"),
        (Target("http", "other", 8000), "other:8000"),
        (Target("http", "vllm", 80), "vllm"),
        (Target("https", "img.example", 443), "img.example"),
    ],
)
def test_direct_to_another_target_sets_scheme_host_port_and_host_header(target: Target, host: str) -> None:
    directed = request()
    direct(directed, target)
    assert (directed.scheme, directed.host, directed.port) == (target.scheme, target.host, target.port)
    assert directed.headers["host"] == host
    assert directed.path == "/v1/rerank?x=1"


@pytest.mark.parametrize("target", [Target("http", "vllm", 8000, "/rerank"), Target("https", "other", 1, "/rerank")])
def test_direct_replaces_the_path_and_keeps_the_query(target: Target) -> None:
    directed = request()
    direct(directed, target)
    assert directed.path == "/rerank?x=1"


def test_target_of_a_request_is_the_chosen_one_unless_it_was_redirected() -> None:
    chosen = Target("http", "vllm", 8000, "/rerank")
    sent = request()
    assert target_of(sent, chosen) is chosen
    assert target_of(sent, None) == Target("http", "vllm", 8000)
    sent.host = "elsewhere"
    assert target_of(sent, chosen) == Target("http", "elsewhere", 8000)


def test_begin_attempt_records_attempts_in_order_with_their_targets() -> None:
    chosen = Target("http", "vllm", 8000, "/rerank")
    sent = request()
    exchange = Exchange(find_route(sent), target=chosen)
    first = begin_attempt(exchange, sent)
    sent.host = "elsewhere"
    second = begin_attempt(exchange, sent)
    assert exchange.attempts == [first, second]
    assert [attempt.target for attempt in exchange.attempts] == [chosen, Target("http", "elsewhere", 8000)]
    assert (first.outcome, first.sent_at, first.status) == (None, None, None)


def test_begin_attempt_puts_an_ipv6_host_header_in_brackets() -> None:
    sent = request("http://[::1]:9")
    sent.headers["host"] = "::1:9"
    begin_attempt(Exchange(find_route(sent)), sent)
    assert sent.headers["host"] == "[::1]:9"


@pytest.mark.parametrize(("setup", "reused"), [(None, False), (9.9, True), (10.0, False), (10.1, False)])
def test_is_reused_is_true_only_if_the_connection_predates_the_request(setup: float | None, reused: bool) -> None:
    sent = request()
    sent.timestamp_start = 10.0
    assert is_reused(Server(address=("vllm", 8000), timestamp_tcp_setup=setup), sent) is reused


@pytest.mark.parametrize(
    ("address", "given", "sent"),
    [
        ("http://[::1]:9", "::1:9", "[::1]:9"),
        ("http://[::1]:80", "::1", "[::1]"),
        ("http://[::1]:9", "client.example", "client.example"),
        ("http://vllm:9", "vllm:9", "vllm:9"),
    ],
)
def test_bracket_ipv6_host_changes_only_an_unbracketed_ipv6_host(address: str, given: str, sent: str) -> None:
    named = request(address)
    named.headers["host"] = given
    bracket_ipv6_host(named)
    assert named.headers["host"] == sent
