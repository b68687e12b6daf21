import asyncio
import socket
from types import SimpleNamespace
from typing import Any

from mitmproxy.proxy.server import ConnectionIO
from mitmproxy.test import tflow

from addons.lifecycle.connection_handlers import ConnectionHandlers


def test_connection_handlers_client_with_unsent_output_has_pending_writes() -> None:
    async def check() -> None:
        ours, theirs = socket.socketpair()
        _, writer = await asyncio.open_connection(sock=ours)
        client, table = tflow.tclient_conn(), dict[str, Any]()
        handlers = ConnectionHandlers(table)
        assert not handlers.has_pending_writes(client)
        assert handlers.waiting_for(client) == 0
        table[client.id] = SimpleNamespace(transports={client: ConnectionIO(writer=writer)})
        assert not handlers.has_pending_writes(client)
        assert handlers.waiting_for(client) == 0
        writer.write(b"x" * 10_000_000)
        assert handlers.has_pending_writes(client)
        assert not handlers.waits_for_upstream(client)
        assert 0 < handlers.waiting_for(client) <= 10_000_000
        table[client.id] = SimpleNamespace(transports={})
        assert handlers.waiting_for(client) == 0, "it has gone"
        theirs.close()
        writer.transport.abort()

    asyncio.run(check())


def test_connection_handlers_client_waits_for_an_upstream_with_unsent_output() -> None:
    async def check() -> None:
        ours, theirs = socket.socketpair()
        _, writer = await asyncio.open_connection(sock=ours)
        client, server = tflow.tclient_conn(), tflow.tserver_conn()
        handlers = ConnectionHandlers({client.id: _handler({server: ConnectionIO(writer=writer)})})
        assert not handlers.waits_for_upstream(client)
        writer.write(b"x" * 10_000_000)
        assert handlers.waits_for_upstream(client)
        assert handlers.has_pending_writes(client)
        assert handlers.waiting_for(client) == 0
        assert handlers.transport_of(client) is None
        assert handlers.transport_of(client, server) is writer.transport
        theirs.close()
        writer.transport.abort()

    asyncio.run(check())


def test_connection_handlers_reflect_the_current_connection_table() -> None:
    client, table = tflow.tclient_conn(), dict[str, Any]()
    handlers = ConnectionHandlers(table)
    assert (list(handlers), len(handlers), handlers.of(client), client.id in handlers) == ([], 0, None, False)
    table[client.id] = handler = _handler({})
    assert (list(handlers), len(handlers), handlers.of(client), client.id in handlers) == ([handler], 1, handler, True)


def _handler(transports: dict[Any, ConnectionIO]) -> Any:
    return SimpleNamespace(transports=transports)
