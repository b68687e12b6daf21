"""Closes the sockets that mitmproxy leaves open.

The task that carries a connection ends when it is cancelled. mitmproxy expects that while it waits for data, and closes
the socket then. But there may be more data already, so that it goes on to hand that over, and the cancellation comes
where nothing is closed. For as long as the other side likes, that socket would stay open: a client of HTTP/2 that is
sent away in the middle of a flood brings it about at will.
"""

from typing import Any

from mitmproxy import ctx
from mitmproxy.connection import Client
from mitmproxy.proxy.server_hooks import ServerConnectionHookData


class LeftoverSockets:
    """Looks, when a connection has come to its end, whether its socket has."""

    def client_disconnected(self, client: Client) -> None:
        """Close what is left of a client, and of its connections to upstreams whose tasks have ended."""
        handler = _handler(client)
        for connection, io in list(handler.transports.items()) if handler else []:
            if connection is client or (io.handler is not None and io.handler.done()):
                _close(handler, connection)

    def server_disconnected(self, data: ServerConnectionHookData) -> None:
        """Close what is left of a connection to an upstream."""
        if (handler := _handler(data.client)) is not None:
            _close(handler, data.server)


def _close(handler: Any, connection: Any) -> None:
    io = handler.transports.pop(connection, None)
    if io is not None and io.writer is not None:
        io.writer.close()


def _handler(client: Client) -> Any:
    """What mitmproxy has made to carry a client's connection."""
    return ctx.master.addons.get("proxyserver").connections.get(client.id)
