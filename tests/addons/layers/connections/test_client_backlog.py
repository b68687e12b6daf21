import asyncio
import socket
from types import SimpleNamespace

from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.proxy.server import ConnectionIO
from mitmproxy.test import taddons, tflow

from addons.layers.connections.client_backlog import has_pending_writes, unread


def test_a_client_is_behind_while_something_is_still_to_be_written() -> None:
    async def check() -> None:
        ours, theirs = socket.socketpair()
        _, writer = await asyncio.open_connection(sock=ours)
        client = tflow.tclient_conn()
        proxyserver = Proxyserver()
        with taddons.context(proxyserver):
            assert not has_pending_writes(client)
            assert unread(client) == 0
            io = ConnectionIO(writer=writer)
            proxyserver.connections[client.id] = SimpleNamespace(transports={client: io})  # type: ignore[assignment]
            assert not has_pending_writes(client)
            assert unread(client) == 0
            writer.write(b"x" * 10_000_000)
            assert has_pending_writes(client)
            assert 0 < unread(client) <= 10_000_000
            proxyserver.connections[client.id] = SimpleNamespace(transports={})  # type: ignore[assignment]
            assert unread(client) == 0, "it has gone"
        theirs.close()
        writer.transport.abort()

    asyncio.run(check())
