"""mitmproxy's handlers of the client connections, and their transports: the one place where these are looked up.

mitmproxy makes a handler for each client connection, which carries that and its connections to upstreams. Its addon
`proxyserver` knows them by the ids of their clients, while they last.
"""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

from mitmproxy.connection import Client, Connection
from mitmproxy.proxy.server import ConnectionHandler, ConnectionIO


class ConnectionHandlers:
    """The handlers that there are now."""

    def __init__(self, handlers: Mapping[Any, ConnectionHandler]) -> None:
        """Look at mitmproxy's table.

        Args:
            handlers: By the ids of their clients, as in `Proxyserver.connections`; mitmproxy changes it.
        """
        self._handlers = handlers

    def __iter__(self) -> Iterator[ConnectionHandler]:
        return iter(list(self._handlers.values()))

    def __len__(self) -> int:
        return len(self._handlers)

    def __contains__(self, client_id: object) -> bool:
        return client_id in self._handlers

    def of(self, client: Client) -> ConnectionHandler | None:
        """The handler of a client's connection; None where that has ended."""
        return self._handlers.get(client.id)

    def transport_of(self, client: Client, connection: Connection | None = None) -> asyncio.WriteTransport | None:
        """The transport of a connection; None where that has ended.

        Args:
            client: Whose handler has the connection.
            connection: One to an upstream; None for the client's own.
        """
        io = self._transports_of(client).get(client if connection is None else connection)
        return io.writer.transport if io is not None and isinstance(io.writer, asyncio.StreamWriter) else None

    def waiting_for(self, client: Client) -> int:
        """How many bytes wait for a client to read what came before them, beside those that the system has taken."""
        transport = self.transport_of(client)
        return transport.get_write_buffer_size() if transport is not None else 0

    def has_pending_writes(self, client: Client) -> bool:
        """Whether a connection of this client, its own or to an upstream, has bytes to write.

        mitmproxy writes all connections of a client dry before it reads on from any of them. So while one of them is
        full, nothing comes from its upstreams, and that is not their fault.
        """
        return any(_is_waiting(io) for io in self._transports_of(client).values())

    def waits_for_upstream(self, client: Client) -> bool:
        """Whether a client is not read from because an upstream takes nothing more."""
        return any(_is_waiting(io) for connection, io in self._transports_of(client).items() if connection != client)

    def _transports_of(self, client: Client) -> Mapping[Connection, ConnectionIO]:
        handler = self._handlers.get(client.id)
        return handler.transports if handler is not None else {}


def _is_waiting(io: ConnectionIO) -> bool:
    return isinstance(io.writer, asyncio.StreamWriter) and io.writer.transport.get_write_buffer_size() > 0
