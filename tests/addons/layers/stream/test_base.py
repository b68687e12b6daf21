"""The base of a stream: its attempt, the upstream's deadline, and that its memory is freed; in memory."""

import pytest
from mitmproxy.proxy import events

from addons.access.body_budget import BodyBudget
from addons.exchange.attempt import AttemptOutcome
from tests.addons.layers.stream.client import GET, OK, POST, Client


def test_the_upstreams_time_begins_with_the_end_of_the_request_and_ends_with_its_response() -> None:
    client = Client(upstream_timeout=7.0)
    client.send(POST)
    server = client.wire.connect()
    assert client.wire.wakeups == []
    client.send(b"body")
    [wakeup] = client.wire.wakeups
    assert wakeup.delay == 7.0
    client.wire.receive(server, OK[:-1])
    client.wire.feed(events.Wakeup(client.wire.wakeups.pop()))
    client.wire.receive(server, OK[-1:])
    assert client.wire.to_client.startswith(b"HTTP/1.1 200 ")


def test_an_upstream_that_does_not_begin_its_response_in_time_is_504() -> None:
    client = Client(upstream_timeout=0.0)
    client.send(GET)
    client.wire.connect()
    client.wire.feed(events.Wakeup(client.wire.wakeups.pop()))
    assert client.wire.to_client.startswith(b"HTTP/1.1 504 ")
    [attempt] = client.exchanges.of(client.flows[0]).attempts
    assert attempt.outcome is AttemptOutcome.TIMED_OUT


@pytest.mark.parametrize("reused", [False, True])
def test_an_attempt_knows_whether_its_connection_was_used_before(reused: bool) -> None:
    client = Client()
    client.send(GET)
    server = client.wire.connect()
    if reused:
        client.wire.receive(server, OK)
        client.send(GET)
    [attempt] = client.exchanges.of(client.flows[-1]).attempts
    assert attempt.reused is reused


def test_a_request_whose_client_goes_while_it_is_connected_is_not_sent() -> None:
    client = Client(streams=False)
    client.send(POST + b"body")
    client.wire.close(client.wire.client)
    server = client.wire.connect()
    assert client.wire.sent[server] == b""


def test_a_stream_that_is_over_is_gone_and_counts_no_bytes() -> None:
    budget = BodyBudget(10_000)
    client = Client(streams=False, budget=budget)
    client.send(POST + b"bo")
    assert budget.held == 2
    client.send(b"dy")
    client.wire.receive(client.wire.connect(), OK)
    assert client.wire.layer.streams == {}  # type: ignore[attr-defined]
    assert budget.held == 0
