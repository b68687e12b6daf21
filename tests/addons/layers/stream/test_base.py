"""The base of a stream: its attempt, the upstream's deadline, and that its memory is freed; in memory."""

import pytest
from mitmproxy.proxy import events

from addons.access.body_budget import BodyBudget
from addons.exchange.attempt import AttemptOutcome
from tests.addons.layers.stream.client import GET, OK, POST, Client


def test_upstream_timeout_runs_from_the_request_end_to_the_response_head() -> None:
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


def test_upstream_timeout_before_the_response_gives_504_and_a_timed_out_attempt() -> None:
    client = Client(upstream_timeout=0.0)
    client.send(GET)
    client.wire.connect()
    client.wire.feed(events.Wakeup(client.wire.wakeups.pop()))
    assert client.wire.to_client.startswith(b"HTTP/1.1 504 ")
    [attempt] = client.exchanges.of(client.flows[0]).attempts
    assert attempt.outcome is AttemptOutcome.TIMED_OUT


@pytest.mark.parametrize("reused", [False, True])
def test_attempt_records_whether_its_connection_was_reused(reused: bool) -> None:
    client = Client()
    client.send(GET)
    server = client.wire.connect()
    if reused:
        client.wire.receive(server, OK)
        client.send(GET)
    [attempt] = client.exchanges.of(client.flows[-1]).attempts
    assert attempt.reused is reused


def test_request_whose_client_disconnects_while_connecting_is_not_sent() -> None:
    client = Client(streams=False)
    client.send(POST + b"body")
    client.wire.close(client.wire.client)
    server = client.wire.connect()
    assert client.wire.sent[server] == b""


def test_finished_stream_is_removed_and_holds_no_budget() -> None:
    budget = BodyBudget(10_000)
    client = Client(streams=False, budget=budget)
    client.send(POST + b"bo")
    assert budget.held == 2
    client.send(b"dy")
    client.wire.receive(client.wire.connect(), OK)
    assert client.wire.layer.streams == {}  # type: ignore[attr-defined]
    assert budget.held == 0
