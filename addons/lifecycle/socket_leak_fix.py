"""Closes the sockets that mitmproxy leaks.

mitmproxy closes a connection by cancelling its task, and assumes that the task waits for data. But the task may have
data already, and wait for the lock to pass it to the layers. Then it ends at once: its socket stays open until the
other side closes it, and the layers get no event that the connection has ended. A client can cause this at will, if it
is disconnected while it sends a flood of data.
"""

from mitmproxy.connection import Client, Connection, ConnectionState
from mitmproxy.proxy import events
from mitmproxy.proxy.server import ConnectionHandler
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from addons.lifecycle.connection_handlers import ConnectionHandlers


class SocketLeakFix:
    """Closes the socket of a connection whose task has ended."""

    def __init__(self, handlers: ConnectionHandlers) -> None:
        """Make the addon.

        Args:
            handlers: The handlers of the client connections.
        """
        self._handlers = handlers

    async def client_disconnected(self, client: Client) -> None:
        """Close what is left of a client, and of its connections to upstreams whose tasks have ended."""
        if (handler := self._handlers.of(client)) is not None:
            for connection, io in list(handler.transports.items()):
                if connection is client or (io.handler is not None and io.handler.done()):
                    await _complete_closing(handler, connection)

    async def server_disconnected(self, data: ServerConnectionHookData) -> None:
        """Close what is left of a connection to an upstream."""
        if (handler := self._handlers.of(data.client)) is not None:
            await _complete_closing(handler, data.server)


async def _complete_closing(handler: ConnectionHandler, connection: Connection) -> None:
    io = handler.transports.pop(connection, None)
    if io is None:
        return  # as it nearly always is
    if io.writer is not None:
        io.writer.close()
    connection.state = ConnectionState.CLOSED
    await handler.server_event(events.ConnectionClosed(connection))
