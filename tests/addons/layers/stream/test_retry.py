"""What is recorded of each attempt, and that the layers send a request again if the policy says so; in memory."""

from collections.abc import Callable, Sequence
from unittest.mock import Mock

import pytest
from mitmproxy import http
from mitmproxy.connection import ConnectionState, Server
from mitmproxy.proxy import events

from addons.exchange.attempt import Attempt, AttemptOutcome, Target
from addons.exchange.exchanges import Exchanges
from addons.exchange.record import Exchange
from addons.layers.http_layer import ApiHttpLayer
from addons.layers.stream.request_body import MAX_KEPT
from addons.routing.routes import Router
from addons.upstream.keep_alive import KeepAliveLimit
from addons.upstream.policy import UpstreamPolicy
from addons.upstream.single import SingleUpstream
from tests.addons.wire import UPSTREAM, Wire, make_config, make_context, no_reading

REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
GET = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"
HERE = Target("http", *UPSTREAM)
ELSEWHERE = Target("http", "elsewhere", 1, "/chat")


class Failover:
    """A policy that has each request that fails before its response sent to the next of some targets."""

    def __init__(self, *targets: Target) -> None:
        self._targets = list(targets)
        self.bodies: list[bytes | None] = []

    def choose(self, exchange: Exchange, request: http.Request) -> Target:
        return SingleUpstream().choose(exchange, request)

    def retry(self, exchange: Exchange, request: http.Request, body: bytes | None) -> Target | None:
        self.bodies.append(body)
        return self._targets.pop(0) if self._targets and body is not None else None


class Client:
    """A client connection whose requests are sent to the upstream."""

    def __init__(self, policy: UpstreamPolicy | None = None, *, streams: bool = False, timeout: float = 3600) -> None:
        self.exchanges = Exchanges(Router().route_of)
        self.flows: list[http.HTTPFlow] = []
        config = make_config(1_000_000, upstreams=policy, upstream_timeout=timeout, exchanges=self.exchanges)
        self.wire = Wire(ApiHttpLayer(make_context(), config, KeepAliveLimit(10), Mock(), no_reading()))

        def begin(flow: http.HTTPFlow) -> None:
            flow.request.stream = streams
            self.flows.append(flow)

        self.wire.hooks = {"requestheaders": begin}

    def send(self, request: bytes = REQUEST) -> None:
        self.wire.receive(self.wire.client, request)

    def attempts(self) -> Sequence[Attempt]:
        """Of the last request."""
        return self.exchanges.of(self.flows[-1]).attempts


def test_attempt_with_a_complete_response_is_completed_for_any_status() -> None:
    client = Client()
    for status, reused in ((200, False), (503, True)):
        client.send()
        server = client.wire.connections[0] if reused else client.wire.connect()
        [attempt] = client.attempts()
        assert attempt.outcome is None
        assert attempt.sent_at is not None
        client.wire.receive(server, RESPONSE.replace(b"200", b"%d" % status))
        [attempt] = client.attempts()
        assert (attempt.target, attempt.reused, attempt.status) == (HERE, reused, status)
        assert attempt.outcome is AttemptOutcome.COMPLETED


def test_attempt_without_a_connection_has_the_outcome_connect_failed() -> None:
    client = Client()
    client.send()
    client.wire.connect("refused")
    [attempt] = client.attempts()
    assert (attempt.outcome, attempt.sent_at, attempt.status) == (AttemptOutcome.CONNECT_FAILED, None, None)
    assert client.wire.to_client.startswith(b"HTTP/1.1 502 ")


def close_client(client: Client, _: Server) -> None:
    client.wire.close(client.wire.client)


def wake(client: Client, _: Server) -> None:
    client.wire.feed(events.Wakeup(client.wire.wakeups.pop()))


def send_half(client: Client, server: Server) -> None:
    client.wire.receive(server, RESPONSE[:-1])
    client.wire.close(server)


@pytest.mark.parametrize(
    ("happens", "outcome", "status"),
    [
        (close_client, AttemptOutcome.ABANDONED, None),
        (wake, AttemptOutcome.TIMED_OUT, None),
        (send_half, AttemptOutcome.TRUNCATED, 200),
        (lambda client, server: client.wire.close(server), AttemptOutcome.CLOSED, None),
        (lambda client, server: client.wire.receive(server, b"SSH-2.0\r\n\r\n"), AttemptOutcome.INVALID, None),
        (
            lambda client, server: client.wire.receive(server, b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
            AttemptOutcome.INVALID,
            None,
        ),
    ],
    ids=["client leaves", "timeout", "truncated", "closed", "no HTTP", "changes the protocol"],
)
def test_attempt_that_failed_records_its_outcome(
    happens: Callable[[Client, Server], None], outcome: AttemptOutcome, status: int | None
) -> None:
    client = Client(timeout=0)
    client.send()
    happens(client, client.wire.connect())
    [attempt] = client.attempts()
    assert (attempt.outcome, attempt.status) == (outcome, status)
    assert client.flows[-1].error is not None


def test_attempt_is_abandoned_when_a_hook_kills_the_flow() -> None:
    client = Client()
    client.wire.hooks["responseheaders"] = http.HTTPFlow.kill
    client.send()
    client.wire.receive(client.wire.connect(), RESPONSE)
    [attempt] = client.attempts()
    assert (attempt.outcome, attempt.status) == (AttemptOutcome.ABANDONED, 200)


def test_attempt_is_abandoned_when_the_request_is_too_large() -> None:
    client = Client(streams=True)
    client.send(b"POST /v1/files HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    client.wire.connect()
    client.send(b"f4241\r\n" + b"x" * 1_000_001)
    [attempt] = client.attempts()
    assert attempt.outcome is AttemptOutcome.ABANDONED
    assert b"HTTP/1.1 413 " in client.wire.to_client


def test_attempt_target_is_where_another_addon_redirected_the_request() -> None:
    client = Client()

    def redirect(flow: http.HTTPFlow) -> None:
        client.flows.append(flow)
        client.exchanges.of(flow).target = HERE
        flow.request.host, flow.request.port = "elsewhere", 1

    client.wire.hooks = {"requestheaders": redirect}
    client.send()
    client.wire.connect()
    [attempt] = client.attempts()
    assert attempt.target == Target("http", "elsewhere", 1)


def test_request_lost_on_an_idle_connection_is_retried_once_on_a_new_one() -> None:
    client = Client()
    client.send()
    first = client.wire.connect()
    client.wire.receive(first, RESPONSE)
    client.send()
    client.wire.close(first)
    second = client.wire.connect()
    assert client.wire.sent[second].endswith(b"\r\n\r\n{}")
    client.wire.close(second)
    assert client.wire.opening == []
    assert [attempt.outcome for attempt in client.attempts()] == [AttemptOutcome.CLOSED] * 2
    assert [attempt.reused for attempt in client.attempts()] == [True, False]
    assert b"HTTP/1.1 502 " in client.wire.to_client


@pytest.mark.parametrize("request_", [GET, REQUEST], ids=["GET", "POST"])
def test_request_whose_attempt_failed_is_retried_at_the_policys_target(request_: bytes) -> None:
    client = Client(Failover(ELSEWHERE))
    client.send()
    first = client.wire.connect()
    client.wire.receive(first, RESPONSE)
    client.send(request_)
    client.wire.close(first)
    second = client.wire.connect()
    assert second.address == ("elsewhere", 1)
    head, _, body = client.wire.sent[second].partition(b"\r\n\r\n")
    assert head.split(b" ")[:2] == [request_[:4].strip(), b"/chat"]
    assert b"host: elsewhere:1" in head.lower()
    assert body == request_.partition(b"\r\n\r\n")[2]
    client.wire.receive(second, RESPONSE)
    assert client.wire.to_client.count(b"HTTP/1.1 200 OK") == 2
    assert client.wire.client.state is ConnectionState.OPEN
    assert [(attempt.target, attempt.outcome) for attempt in client.attempts()] == [
        (HERE, AttemptOutcome.CLOSED),
        (ELSEWHERE, AttemptOutcome.COMPLETED),
    ]
    assert client.exchanges.of(client.flows[-1]).target is ELSEWHERE


def test_retry_policy_is_not_consulted_once_the_response_has_begun() -> None:
    policy = Failover(ELSEWHERE)
    client = Client(policy)
    client.send(GET)
    send_half(client, client.wire.connect())
    assert policy.bodies == []
    assert client.wire.opening == []


def test_retry_policy_is_not_consulted_while_the_request_is_in_progress() -> None:
    policy = Failover(ELSEWHERE)
    client = Client(policy, streams=True)
    client.send(REQUEST[:-1])
    client.wire.close(client.wire.connect())
    assert policy.bodies == []
    assert client.wire.opening == []


@pytest.mark.parametrize("size", [MAX_KEPT, MAX_KEPT + 1])
def test_retry_policy_gets_the_sent_body_only_up_to_the_kept_size(size: int) -> None:
    policy = Failover()
    client = Client(policy, streams=True)
    body = b"x" * size
    client.send(b"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size + body)
    client.wire.close(client.wire.connect())
    assert policy.bodies == [body if size <= MAX_KEPT else None]
