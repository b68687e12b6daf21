"""Options of sockets; tests/e2e/test_vanished_peers.py tests vanished peers."""

import asyncio
import socket
from types import SimpleNamespace
from typing import Any

import pytest
from mitmproxy.proxy.server import ConnectionIO
from mitmproxy.test import tflow

from addons.lifecycle.connection_handlers import ConnectionHandlers
from addons.lifecycle.tcp_keepalive import PROBES, TcpKeepalive, keepalive_options


@pytest.mark.parametrize(("idle", "user_timeout", "interval"), [(30, 120, 15), (60, 120, 10), (1, 2, 1), (10, 71, 11)])
def test_tcp_keepalive_probes_are_spread_up_to_the_user_timeout(idle: int, user_timeout: int, interval: int) -> None:
    with socket.socket(socket.AF_INET6) as sock:
        for option in keepalive_options(idle, user_timeout):
            sock.setsockopt(*option)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        read = [sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in NAMES]
    assert read == [idle, interval, PROBES, 1000 * user_timeout]
    assert 0 <= idle + PROBES * interval - user_timeout < PROBES, "seconds"


def test_tcp_keepalive_omits_options_that_the_platform_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delattr(socket, name)
    assert keepalive_options(30, 120) == [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]


def test_tcp_keepalive_ignores_a_connection_that_has_already_closed() -> None:
    client = tflow.tclient_conn()

    async def connect_and_end() -> None:
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.transport.abort()
            await reader.read()
        handler: Any = SimpleNamespace(transports={client: ConnectionIO(reader=reader, writer=writer)})
        TcpKeepalive(30, 120, ConnectionHandlers({client.id: handler})).client_connected(client)

    asyncio.run(connect_and_end())


NAMES = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
