"""Look-up of mitmproxy's handlers of client connections, and of their transports.

mitmproxy makes a handler for each client connection, which also has the connections to upstreams. Its addon
`proxyserver` has a table of them by client id.
"""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

from mitmproxy.connection import Client, Connection
from mitmproxy.proxy.server import ConnectionHandler, ConnectionIO


class ConnectionHandlers:
    """The current handlers."""

    def __init__(self, handlers: Mapping[Any, ConnectionHandler]) -> None:
        """Use mitmproxy's table.

        Args:
            handlers: The handlers by client id, `Proxyserver.connections`; mitmproxy updates it.
        """
        self._handlers = handlers

    def __iter__(self) -> Iterator[ConnectionHandler]:
        return iter(list(self._handlers.values()))

    def __len__(self) -> int:
        return len(self._handlers)

    def __contains__(self, client_id: object) -> bool:
        return client_id in self._handlers

    def of(self, client: Client) -> ConnectionHandler | None:
        """The handler of a client's connection; None if that is closed."""
        return self._handlers.get(client.id)

    def transport_of(self, client: Client, connection: Connection | None = None) -> asyncio.WriteTransport | None:
        """The transport of a connection; None if that is closed.

        Args:
            client: The client whose handler has the connection.
            connection: A connection to an upstream; None for the client's own.
        """
        io = self._transports_of(client).get(client if connection is None else connection)
        return io.writer.transport if io is not None and isinstance(io.writer, asyncio.StreamWriter) else None

    def waiting_for(self, client: Client) -> int:
        """Bytes in the write buffer of a client's connection, without those in the kernel's."""
        transport = self.transport_of(client)
        return transport.get_write_buffer_size() if transport is not None else 0

    def has_pending_writes(self, client: Client) -> bool:
        """Whether a connection of this client, its own or to an upstream, has bytes to write.

        mitmproxy flushes all connections of a client before it reads from any of them. So while one of them is full,
        nothing is read from its upstreams, which must not count as their delay.
        """
        return any(_is_waiting(io) for io in self._transports_of(client).values())

    def waits_for_upstream(self, client: Client) -> bool:
        """Whether a client is not read because of an upstream's backpressure."""
        return any(_is_waiting(io) for connection, io in self._transports_of(client).items() if connection != client)

    def _transports_of(self, client: Client) -> Mapping[Connection, ConnectionIO]:
        handler = self._handlers.get(client.id)
        return handler.transports if handler is not None else {}


def _is_waiting(io: ConnectionIO) -> bool:
    return isinstance(io.writer, asyncio.StreamWriter) and io.writer.transport.get_write_buffer_size() > 0
