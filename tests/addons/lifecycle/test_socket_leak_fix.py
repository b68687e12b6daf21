import asyncio
from types import SimpleNamespace

from mitmproxy.connection import Client, Connection, ConnectionState, Server
from mitmproxy.proxy import events
from mitmproxy.proxy.server import ConnectionIO
from mitmproxy.proxy.server_hooks import ServerConnectionHookData
from mitmproxy.test import tflow

from addons.lifecycle.connection_handlers import ConnectionHandlers
from addons.lifecycle.socket_leak_fix import SocketLeakFix


class Writer:
    """Records whether it was closed."""

    closed = False

    def close(self) -> None:
        self.closed = True


class Handler:
    """What mitmproxy has for a client whose tasks have ended or go on."""

    def __init__(self, **tasks_over: bool) -> None:
        self.client: Client = tflow.tclient_conn()
        self.server: Server = tflow.tserver_conn()
        self.writers: dict[Connection, Writer] = {}
        self.transports: dict[Connection, ConnectionIO] = {}
        self.told: list[events.Event] = []
        for name, over in tasks_over.items():
            connection = getattr(self, name)
            self.writers[connection] = Writer()
            task = SimpleNamespace(done=lambda over=over: over)
            self.transports[connection] = ConnectionIO(task, None, self.writers[connection])  # type: ignore[arg-type]

    async def server_event(self, event: events.Event) -> None:
        self.told.append(event)


def told(handler: Handler, hook: str) -> None:
    fix = SocketLeakFix(ConnectionHandlers({handler.client.id: handler}))  # type: ignore[dict-item]
    if hook == "client":
        asyncio.run(fix.client_disconnected(handler.client))
    else:
        asyncio.run(fix.server_disconnected(ServerConnectionHookData(handler.server, handler.client)))


def test_socket_leak_fix_closes_a_leaked_client_socket() -> None:
    handler = Handler(client=True)
    told(handler, "client")
    assert handler.writers[handler.client].closed
    assert not handler.transports
    assert handler.client.state is ConnectionState.CLOSED
    assert [event.connection for event in handler.told] == [handler.client]  # type: ignore[attr-defined]


def test_socket_leak_fix_closes_a_clients_upstreams_only_if_no_task_will() -> None:
    for over in (True, False):
        handler = Handler(server=over)
        told(handler, "client")
        assert handler.writers[handler.server].closed is over
        assert (handler.server in handler.transports) is not over


def test_socket_leak_fix_closes_a_leaked_upstream_socket() -> None:
    handler = Handler(client=False, server=True)
    told(handler, "server")
    assert handler.writers[handler.server].closed
    assert not handler.writers[handler.client].closed


def test_socket_leak_fix_ignores_sockets_closed_by_mitmproxy() -> None:
    handler = Handler()
    told(handler, "client")
    told(handler, "server")
