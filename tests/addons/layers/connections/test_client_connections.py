"""Which connections are accepted, and which are closed because their clients miss a deadline."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from mitmproxy.connection import Client
from mitmproxy.proxy import events
from mitmproxy.test import tflow

from addons.access.client_deadline import ClientTimeouts
from addons.access.connection_limit import ConnectionLimit
from addons.layers.connections import client_connections
from addons.layers.connections.client_connections import ClientConnections, ClientOverdue, Ports
from addons.layers.http2.graceful_server import GoingAway
from addons.lifecycle.connection_handlers import ConnectionHandlers
from tests.support.limits import limit

SIDE_PORT = 8001


class Handler:
    """A connection handler that records its events, and may act on them."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.transports: dict[Any, Any] = {client: SimpleNamespace(writer=None, handler=None)}
        self.told: asyncio.Queue[object] = asyncio.Queue()
        self.act: Callable[[object], None] = lambda _: None

    async def server_event(self, event: events.Event) -> None:
        self.act(event)
        self.told.put_nowait(type(event))

    async def on_timeout(self) -> None:
        self.told.put_nowait("timeout")

    async def next(self) -> object:
        async with asyncio.timeout(limit()):
            return await self.told.get()


class Proxy:
    """Connections of a proxy that takes three, and two at the side port."""

    def __init__(self, seconds: float = 3600) -> None:
        self.table: dict[str, Any] = {}
        ports = Ports(
            ConnectionLimit("MAX_CONNECTIONS", 3, 2),
            ConnectionLimit("the side port's", 2),
            lambda client: client.sockname[1] == SIDE_PORT,
            lambda peer: peer,
        )
        timeouts = ClientTimeouts(head=seconds, body=seconds, idle=seconds)
        self.connections = ClientConnections(ports, timeouts, ConnectionHandlers(self.table))

    def connect(self, peer: str = "203.0.113.1", port: int = 8000) -> Handler:
        client = tflow.tclient_conn()
        client.peername, client.sockname, client.error = (peer, id(client)), ("proxy", port), None
        handler = self.table[client.id] = Handler(client)
        self.connections.client_connected(client)
        return handler

    def leave(self, handler: Handler) -> None:
        del self.table[handler.client.id]
        self.connections.client_disconnected(handler.client)


@pytest.fixture
def proxy() -> Proxy:
    return Proxy()


@asynccontextmanager
async def running(seconds: float) -> AsyncIterator[Proxy]:
    proxy = Proxy(seconds)
    proxy.connections.running()
    try:
        yield proxy
    finally:
        proxy.connections.done()


def test_connections_over_the_limit_and_over_a_clients_share_are_refused(proxy: Proxy) -> None:
    taken = [proxy.connect(), proxy.connect()]
    assert proxy.connect().client.error == "too many connections", "it has its share"
    taken.append(proxy.connect("203.0.113.2"))
    assert proxy.connect("203.0.113.3").client.error == "too many connections"
    assert [handler.client.error for handler in taken] == [None] * 3
    assert proxy.connections.count() == 3
    proxy.leave(taken[0])
    assert proxy.connect("203.0.113.3").client.error is None


def test_the_side_port_has_places_of_its_own(proxy: Proxy) -> None:
    for peer in ("203.0.113.1", "203.0.113.2", "203.0.113.3"):
        proxy.connect(peer)
    assert proxy.connect(port=SIDE_PORT).client.error is None
    assert proxy.connect(port=SIDE_PORT).client.error is None
    assert proxy.connect(port=SIDE_PORT).client.error is not None


def test_a_connection_that_was_refused_takes_no_place_away_when_it_ends(proxy: Proxy) -> None:
    for _ in range(2):
        proxy.connect()
    refused = proxy.connect()
    proxy.leave(refused)
    assert proxy.connections.count() == 2
    assert proxy.connect().client.error is not None


def test_a_flood_of_refused_connections_is_one_line_for_each_reason(
    proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(20):
        proxy.connect("203.0.113.1" if number < 10 else f"203.0.113.{number}")
    lines = [message for message in caplog.messages if "connections refused" in message]
    assert len(lines) == 2
    assert lines[0].startswith("1 connections refused: one address has its share")
    assert lines[1].startswith("1 connections refused: MAX_CONNECTIONS 3 are open")


def test_a_connection_has_a_deadline_of_its_own(proxy: Proxy) -> None:
    one, two = proxy.connect(), proxy.connect()
    assert proxy.connections.deadline_of(one.client) is proxy.connections.deadline_of(one.client)
    assert proxy.connections.deadline_of(one.client) is not proxy.connections.deadline_of(two.client)


@pytest.mark.parametrize("speaks_http", [False, True])
def test_a_client_that_lets_its_deadline_pass_is_told_by_its_layer_or_else_cut_off(speaks_http: bool) -> None:
    async def main() -> None:
        async with running(seconds=0.04) as proxy:
            handler = proxy.connect()
            deadline = proxy.connections.deadline_of(handler.client)
            deadline.speaks_http = speaks_http
            if speaks_http:
                handler.act = lambda _: deadline.stop()  # as a layer that has answered 408
            assert await handler.next() == (ClientOverdue if speaks_http else "timeout")
            assert handler.told.empty()

    asyncio.run(main())


def test_a_client_whose_layer_does_nothing_about_its_deadline_is_cut_off() -> None:
    async def main() -> None:
        async with running(seconds=0.04) as proxy:
            handler = proxy.connect()
            proxy.connections.deadline_of(handler.client).speaks_http = True
            assert await handler.next() is ClientOverdue
            assert await handler.next() == "timeout"

    asyncio.run(main())


def test_a_client_that_waits_for_an_upstream_to_take_its_body_is_excused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with running(seconds=0.04) as proxy:
            handler = proxy.connect()
            excused = asyncio.Event()
            deadline = proxy.connections.deadline_of(handler.client)
            monkeypatch.setattr(ConnectionHandlers, "waits_for_upstream", lambda *_: True)
            monkeypatch.setattr(type(deadline), "excuse", lambda _: excused.set())
            async with asyncio.timeout(limit()):
                await excused.wait()
            assert handler.told.empty()

    asyncio.run(main())


def test_a_proxy_that_retires_tells_its_clients_with_http_and_closes_new_ones_soon_too() -> None:
    async def main() -> None:
        proxy = Proxy()
        speaking, silent = proxy.connect(), proxy.connect()
        proxy.connections.deadline_of(speaking.client).speaks_http = True
        proxy.connections.retire()
        assert await speaking.next() is GoingAway
        assert silent.told.empty()
        later = proxy.connect("203.0.113.2")
        for handler in (speaking, silent, later):
            assert proxy.connections.deadline_of(handler.client).retiring
        proxy.connections.done()

    asyncio.run(main())


def test_only_connections_with_http2_retire_when_the_proxy_stops() -> None:
    async def main() -> None:
        proxy = Proxy()
        http1, http2 = proxy.connect(), proxy.connect()
        http2.client.alpn, http1.client.alpn = b"h2", b"http/1.1"
        for handler in (http1, http2):
            proxy.connections.deadline_of(handler.client).speaks_http = True
        proxy.connections.retire_http2()
        assert await http2.next() is GoingAway
        assert http1.told.empty()
        assert not proxy.connections.deadline_of(http1.client).retiring
        proxy.connections.done()

    asyncio.run(main())


def test_one_connection_can_be_closed_soon() -> None:
    async def main() -> None:
        proxy = Proxy()
        one, two = proxy.connect(), proxy.connect()
        proxy.connections.deadline_of(one.client).speaks_http = True
        proxy.connections.close_soon(one.client)
        proxy.connections.close_soon(tflow.tclient_conn())
        assert await one.next() is GoingAway
        assert not proxy.connections.deadline_of(two.client).retiring
        proxy.connections.done()

    asyncio.run(main())


def test_a_client_is_read_from_in_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    transport = SimpleNamespace(max_size=256 * 1024, get_write_buffer_size=lambda: 0)
    monkeypatch.setattr(ConnectionHandlers, "transport_of", lambda *_: transport)
    Proxy().connect()
    assert transport.max_size == client_connections._READ_SIZE
