"""Which connections get a reader, and how those of upstreams are reached."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from mitmproxy.connection import Client, Server
from mitmproxy.proxy.server import ConnectionIO
from mitmproxy.proxy.server_hooks import ServerConnectionHookData
from mitmproxy.test import tflow

from addons.layers.connections.inline_reader import InlineReader
from addons.layers.connections.read_controller import ReadController
from addons.layers.http2.connection import MAX_STREAMS
from addons.lifecycle.connection_handlers import ConnectionHandlers


class Connections:
    """A client's connection and one to an upstream, and the other ends of both."""

    def __init__(self) -> None:
        self.client: Client = tflow.tclient_conn()
        self.server = Server(address=("upstream", 9000))
        self.peers: list[socket.socket] = []
        self.handler: Any = SimpleNamespace(
            transports={}, max_conns=SimpleNamespace(default_factory=None), timeout_watchdog=None
        )
        handlers: dict[str, Any] = {self.client.id: self.handler}
        self.controller = ReadController(ConnectionHandlers(handlers))

    def reader_of(self, connection: Client | Server) -> object:
        return self.handler.transports[connection].reader


@asynccontextmanager
async def connected() -> AsyncIterator[Connections]:
    made = Connections()
    writers = []
    for connection in (made.client, made.server):
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        made.handler.transports[connection] = ConnectionIO(reader=reader, writer=writer)
        made.peers.append(theirs)
        writers.append(writer)
    yield made
    for peer in made.peers:
        peer.close()
    for writer in writers:
        writer.transport.abort()


def test_read_controller_gives_a_client_a_reader_and_max_streams_upstream_connections() -> None:
    async def check() -> None:
        async with connected() as made:
            made.controller.client_connected(made.client)
            assert isinstance(made.reader_of(made.client), InlineReader)
            assert made.handler.max_conns.default_factory()._value == MAX_STREAMS

    asyncio.run(check())


def test_read_controller_gives_a_refused_client_no_reader() -> None:
    async def check() -> None:
        async with connected() as made:
            made.client.error = "too many connections"
            made.controller.client_connected(made.client)
            assert not isinstance(made.reader_of(made.client), InlineReader)

    asyncio.run(check())


def test_read_controller_pauses_resumes_and_closes_an_upstream_connection() -> None:
    async def check() -> None:
        async with connected() as made:
            controller, server = made.controller, made.server
            assert not controller.has_ended(server), "it has no reader yet"
            controller.server_connected(ServerConnectionHookData(server=server, client=made.client))
            reader: Any = made.reader_of(server)
            controller.pause_reading(server)
            assert reader._resumed is not None
            controller.resume(server)
            assert reader._resumed is None
            assert not controller.has_ended(server)
            controller.close(server)
            assert controller.has_ended(server)

    asyncio.run(check())


def test_read_controller_connects_the_fast_path_to_the_client() -> None:
    async def check() -> None:
        async with connected() as made:
            made.controller.server_connected(ServerConnectionHookData(server=made.server, client=made.client))
            made.controller.enable_fast_path(SimpleNamespace(conn=made.server, fast_path=None), made.client)
            reader: Any = made.reader_of(made.server)
            assert reader._fast_path_writer._client is made.handler.transports[made.client].writer.transport

    asyncio.run(check())
